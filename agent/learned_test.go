package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/agent/rpc"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// stampedCaller is a server whose answer has a stamp, and that does not send it to
// who has it.
type stampedCaller struct {
	deafCaller
	stamp rpc.Stamp
	node  string
	down  string // does not answer
	lies  bool   // says that everything is as before
	sent  *int   // how often it sent the answer
}

func (c *stampedCaller) Query(_ context.Context, to string, r *rpc.QueryRequest, each func(rpc.Reply) error) error {
	if to == c.down {
		return errors.New("it is down")
	}
	meta := mvcc.Meta{Index: c.stamp.Index, Line: c.stamp.Line}
	if c.lies || r.Have == c.stamp {
		return each(rpc.Reply{Meta: meta, Same: true})
	}
	*c.sent++
	body, err := state.EncodeAnswer([]health.Entry{{Node: &catalog.Node{Name: c.node}, Service: &catalog.Service{}}})
	if err != nil {
		return err
	}
	return each(rpc.Reply{Meta: meta, Body: body})
}

// A client agent tells a server what it has of it, and gets the rest.
func TestClientAgentLearns(t *testing.T) {
	sent := 0
	c := &stampedCaller{stamp: rpc.Stamp{Index: 5, Line: 1 << 60}, node: "first", sent: &sent}
	r := &remote{calls: c, hold: time.Second, router: newRouter("c", "dc1", twoServers{}, time.Now)}
	r.follow(&config.Config{RPCRate: -1})
	ask := func(want string, wantSent int) (line uint64) {
		t.Helper()
		value, meta, err := r.ask(t.Context(), mvcc.ReadOptions{}, &health.ServiceQuery{Service: "web"})
		if err != nil {
			t.Fatal(err)
		}
		if got := value.([]health.Entry)[0].Node.Name; got != want || sent != wantSent || meta.Index != c.stamp.Index {
			t.Errorf("the answer is %s, as of %d, and was sent %d times, want %s, %d, %d", got, meta.Index, sent, want, c.stamp.Index, wantSent)
		}
		return meta.Line
	}
	line := ask("first", 1)
	if again := ask("first", 1); again != line {
		t.Errorf("the line of an answer that is the same is %d, and was %d", again, line)
	}
	c.stamp.Index, c.node = 6, "second"
	ask("second", 2)
	c.stamp.Line++
	ask("second", 3)
	// Another server has stamps of its own.
	c.down, c.node = r.servers()[0], "elsewhere"
	if ask("elsewhere", 4) == line {
		t.Error("two servers have one line")
	}
	ask("elsewhere", 4)
	c.down, c.lies = "", true
	r.learned = learned{}
	if _, _, err := r.ask(t.Context(), mvcc.ReadOptions{}, &health.ServiceQuery{Service: "web"}); err == nil || !strings.Contains(err.Error(), "as before") {
		t.Errorf("an answer that is as one which was never given: %v", err)
	}
	if _, _, err := r.ask(t.Context(), mvcc.ReadOptions{}, &kv.List{Prefix: "a"}); err == nil {
		t.Error("the answer about a prefix is kept, whose index does not say what it is")
	}
}

func TestLearnedIsBounded(t *testing.T) {
	var l learned
	sum := func() (bytes int) {
		for query, a := range l.kept {
			bytes += len(query) + a.size
		}
		return bytes
	}
	for i := range maxLearned + 100 {
		l.keep([]byte(fmt.Sprint(i)), &learnedAnswer{server: "a", size: 1 + i%9})
	}
	if len(l.kept) != maxLearned || l.bytes != sum() {
		t.Errorf("%d answers of %d bytes, counted as %d", len(l.kept), sum(), l.bytes)
	}
	for i := range 20 {
		l.keep([]byte(fmt.Sprint("large", i%12)), &learnedAnswer{server: "a", size: maxLearnedAnswer / 2 * (1 + i%3)})
	}
	if l.bytes > maxLearnedBytes || l.bytes != sum() {
		t.Errorf("%d bytes, counted as %d, the limit is %d", sum(), l.bytes, maxLearnedBytes)
	}
	if l.of("b", []byte("large1")) != nil || l.of("a", []byte("none")) != nil {
		t.Error("an answer that was never given")
	}
}
