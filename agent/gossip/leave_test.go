package gossip

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// A leave is over as soon as the servers took it over, however long it may wait.
func TestLeaveIsOverOnceTaken(t *testing.T) {
	t.Parallel()
	patient := func(cfg *Config) { cfg.Timing.LeaveSettle = 2 * time.Minute }
	nodes := cluster(t, 5, 3, patient)
	for _, leaver := range []*node{nodes[4], nodes[0]} {
		begun := time.Now()
		if err := leaver.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		took := time.Since(begun)
		t.Logf("%s left after %s", leaver.name, took)
		if took > time.Minute {
			t.Errorf("the leave of %s took %s", leaver.name, took)
		}
		for _, s := range nodes[1:3] {
			if got := s.status(leaver.name); got != Left {
				t.Errorf("%s said that it took the leave of %s over, and sees it as %s", s.name, leaver.name, got)
			}
		}
		leaver.end()
	}
	// Among clients alone, the word of one is enough.
	alone := cluster(t, 3, 0, patient)
	if err := alone[2].Leave(context.Background()); err != nil {
		t.Error(err)
	}
}

// Who is cut off leaves after a while, and knows that nobody heard it.
func TestLeaveThatNobodyHears(t *testing.T) {
	t.Parallel()
	network := NewNetwork(7)
	nodes := cluster(t, 3, 1, slow, func(cfg *Config) {
		cfg.Filter = network
		cfg.Timing.LeaveSettle = 300 * time.Millisecond
	})
	network.Silence(nodes[2].Addr())
	if err := nodes[2].Leave(context.Background()); err == nil || !strings.Contains(err.Error(), "none of 2 said so within 300ms") {
		t.Errorf("it left with %v", err)
	}
	if err := nodes[2].SetTags(map[string]string{"a": "b"}); err != nil {
		t.Errorf("new tags of one who left: %v", err)
	}
}

// A pool that ends waits for nobody who does not answer.
func TestCloseCutsWhatItOpened(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	taken := make(chan net.Conn)
	go func() {
		if conn, err := mute.Accept(); err == nil {
			taken <- conn
		}
		close(taken)
	}()
	n := open(t, 0, func(cfg *Config) { cfg.Timing.StreamTimeout = 5 * time.Minute })
	joined := make(chan error, 1)
	go func() {
		_, err := n.Join(context.Background(), []string{mute.Addr().String()})
		joined <- err
	}()
	conn := <-taken
	defer conn.Close()
	begun := time.Now()
	n.end()
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("it closed after %s", took)
	}
	if err := <-joined; err == nil {
		t.Error("it joined")
	}
}
