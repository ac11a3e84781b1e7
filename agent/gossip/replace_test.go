package gossip

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// follow has a client belong to the cluster of its servers, as agents do.
func follow(t *testing.T, n *node) {
	changed, cancel := n.Subscribe()
	done := make(chan struct{})
	t.Cleanup(func() { n.end(); <-done })
	go func() {
		defer close(done)
		defer cancel()
		for {
			found, stays := "", false
			own := n.Self().Tags[ClusterTag]
			for _, m := range n.Members() {
				if id := m.Tags[ClusterTag]; m.IsServer() && m.Status == Alive && id != "" {
					stays = stays || id == own
					found = id
				}
			}
			if !stays && found != own && n.ctx.Err() == nil {
				tags := maps.Clone(n.Self().Tags)
				tags[ClusterTag] = found
				if err := n.SetTags(tags); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
			select {
			case <-changed:
			case <-n.ctx.Done():
				return
			}
		}
	}()
}

// belongs reports whether a member sees another alive in a cluster.
func belongs(n *node, name, id string) bool {
	m, ok := n.find(name)
	return ok && m.Status == Alive && m.Tags[ClusterTag] == id
}

// The only server of a cluster is started again at once and begins another: its
// clients move over, whatever they hear first.
func TestReplacedServerTakesItsClients(t *testing.T) {
	t.Parallel()
	before, after := strings.Repeat("a", 32), strings.Repeat("b", 32)
	for _, first := range []string{"nobody tells", "it joins", "it joins before it knows", "it joins and moves late"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, 4, 1)
			old, clients := nodes[0], nodes[1:]
			settleCluster(t, old, before)
			for _, n := range clients {
				follow(t, n)
			}
			for _, n := range clients {
				old.wait(patience, n.name+" belongs to it", func() bool { return belongs(old, n.name, before) })
			}
			at := old.Addr()
			old.kill()
			begun := time.Now()
			next := open(t, 0, server, func(cfg *Config) {
				cfg.Bind = at
				if strings.HasPrefix(first, "nobody") {
					cfg.Self.Tags[ClusterTag] = after
				}
			})
			if strings.HasSuffix(first, "knows") || strings.HasSuffix(first, "late") {
				_, _ = next.Join(t.Context(), []string{clients[0].Addr().String()})
			}
			if strings.HasSuffix(first, "late") {
				next.wait(patience, "it met them", func() bool { return len(next.Members()) > 1 })
				pause(t.Context(), 3*next.timing.GossipInterval)
			}
			settleCluster(t, next, after)
			if first == "it joins" {
				_, _ = next.Join(t.Context(), []string{clients[0].Addr().String()})
			}
			for _, n := range clients {
				n.wait(time.Minute, "the new server is there", func() bool { return belongs(n, next.name, after) })
				next.wait(time.Minute, n.name+" is there", func() bool { return belongs(next, n.name, after) })
			}
			t.Logf("all moved within %s", time.Since(begun).Round(time.Millisecond))
			for _, n := range clients {
				for line := range strings.Lines(n.log.String()) {
					if strings.Contains(line, "empty data directory") && strings.Contains(line, "member=n0") && !strings.Contains(line, "level=DEBUG") {
						t.Errorf("%s says what to do about a server that it goes over to: %s", n.name, line)
					}
				}
			}
		})
	}
}

// A client whose servers are gone, or which finds its cluster late, comes back to
// those that dropped it and that it dropped.
func TestPartedClientComesOver(t *testing.T) {
	t.Parallel()
	for _, word := range []string{strings.Repeat("b", 32), ""} {
		t.Run(map[bool]string{true: "it learns late", false: "it knows"}[word == ""], func(t *testing.T) {
			t.Parallel()
			nodes := cluster(t, 2, 1)
			s, client := nodes[0], nodes[1]
			settleCluster(t, client, strings.Repeat("a", 32))
			settleCluster(t, s, strings.Repeat("b", 32))
			for _, n := range nodes {
				n.wait(time.Minute, "it is alone", func() bool { return n.onlySees([]*node{n}) })
			}
			settleCluster(t, client, word)
			follow(t, client)
			client.wait(time.Minute, "the server is there", func() bool { return belongs(client, s.name, strings.Repeat("b", 32)) })
			s.wait(time.Minute, "the client is there", func() bool { return belongs(s, client.name, strings.Repeat("b", 32)) })
		})
	}
}

// A member of the same cluster that is started again is never thought to have failed
// because another life answers to its name.
func TestNextLifeOfTheSameClusterNeverFails(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2)
	for _, n := range nodes {
		settleCluster(t, n, strings.Repeat("a", 32))
	}
	old, _ := nodes[1].find("n0")
	at := nodes[0].Addr()
	nodes[0].kill()
	next := open(t, 0, server, func(cfg *Config) { cfg.Bind = at })
	settleCluster(t, next, strings.Repeat("a", 32))
	// It joins nobody: the others find out by its answers.
	for _, n := range nodes[1:] {
		n.wait(time.Minute, "it is known again", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.table["n0"].meta.life == next.life && n.table["n0"].status == Alive
		})
		if n.log.has("it was started again as one of another cluster") {
			t.Errorf("%s thought %+v to have failed", n.name, old)
		}
	}
}

// A life that was wrongly thought to be over is back once it is heard itself.
func TestLifeThatIsNotOver(t *testing.T) {
	p := newTestPool()
	r := &record{name: "n2", answers: true, status: Alive, meta: meta{life: 7, tags: serverTags()}}
	p.table["n2"] = r
	p.end(r, candidate{name: "n2", at: r.addrPort()})
	if r.status != Failed {
		t.Fatalf("it is %s", r.status)
	}
	p.revive("n2", 8)
	if r.status != Failed {
		t.Errorf("by another life it is %s", r.status)
	}
	p.revive("n2", 7)
	if r.status != Alive {
		t.Errorf("it is %s", r.status)
	}
}

// An address is not shunned for one who was forgiven meanwhile.
func TestShunsOnlyThoseStillParted(t *testing.T) {
	t.Parallel()
	n := open(t, 0, server)
	settleCluster(t, n, strings.Repeat("a", 32))
	strange := meta{life: 7, tags: map[string]string{"role": RoleClient, ClusterTag: strings.Repeat("b", 32)}}
	at := ownAddress()
	var records []*record
	n.mu.Lock()
	for i := range 3 {
		r := &record{name: fmt.Sprintf("strange-%d", i), addr: at.Addr(), port: uint16(1 + i), answers: true, meta: strange}
		n.table[r.name] = r
		records = append(records, r)
		n.part(r, strange)
	}
	home := candidate{name: records[1].name, at: records[1].addrPort(), meta: meta{life: 7, tags: map[string]string{ClusterTag: n.ownCluster()}}}
	if n.partedFrom(home) {
		t.Error("one that came over is still a stranger")
	}
	n.table["another"] = &record{name: "another", addr: at.Addr(), port: records[2].port, answers: true, status: Alive}
	n.mu.Unlock()
	n.wait(patience, "the first is shunned", func() bool { return n.transport.shunned.has(records[0].addrPort()) })
	pause(t.Context(), 100*time.Millisecond)
	for _, r := range records[1:] {
		if n.transport.shunned.has(r.addrPort()) {
			t.Errorf("%s is shunned", r.name)
		}
	}
}

// Members that are gone and only remembered do not keep servers from their pings, nor
// make them more patient.
func TestThoseWhoAreGoneDoNotCount(t *testing.T) {
	p := newTestPool()
	p.leaving = false
	before := p.patience()
	p.table["here"] = &record{name: "here", answers: true, status: Alive}
	for i := range 2 * maxDirect {
		name := fmt.Sprintf("gone-%d", i)
		p.table[name] = &record{name: name, status: Left}
	}
	if got := p.watched(); !slices.Equal(got, []lifeOf{{"here", 0}}) {
		t.Errorf("of %d members that are gone and one that is not, %d are pinged", 2*maxDirect, len(got))
	}
	if got := p.patience(); got != before {
		t.Errorf("the patience is %s, and was %s", got, before)
	}
}

// Who leaves learns whether somebody is there who may have heard it all the same.
func TestHeardLately(t *testing.T) {
	p := newTestPool()
	r := &record{name: "n2", answers: true, status: Alive, heardAt: time.Now()}
	p.table["n2"] = r
	if !p.HeardLately() {
		t.Error("who was heard just now was not")
	}
	if r.heardAt = time.Now().Add(-p.timing.LeaveSettle - heardProbes*p.timing.ProbeInterval); p.HeardLately() {
		t.Error("who has been silent for long was heard lately")
	}
}

// Addresses are read under the mutex: news of a member comes at any time.
func TestAskAllWhileTagsChange(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, 2, watchful)
	p := nodes[0].Pool
	p.mu.Lock()
	r := p.table["n2"]
	key, at, raw, m := lifeOf{r.name, r.meta.life}, r.addrPort(), r.raw, r.meta
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			p.mu.Lock()
			p.joined("n2", at, raw, m)
			p.mu.Unlock()
		}
	}()
	for range 20 {
		p.askAll(r, key)
		p.askServers(key)
	}
	<-done
}

func FuzzAckPayload(f *testing.F) {
	p := newTestPool()
	f.Add(delegate{p}.AckPayload())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		life, ok := lifeOfAck(b)
		if ok != (len(b) == 8) {
			t.Errorf("%x is read as life %x, %v", b, life, ok)
		}
	})
}
