package leader

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/agent/gossip"
	"github.com/muster-sd/muster/agent/state"
	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// world is what the leader's duties act on: members, and a state machine that
// applies at once.
type world struct {
	t       *testing.T
	machine *state.Machine

	mu       sync.Mutex // guards all below
	watchers []chan struct{}
	members  []gossip.Member
	self     catalog.Node
	index    uint64
	commands []any
	fail     error // what Apply returns, if it is not nil
	log      strings.Builder
}

// Write takes a line of the log.
func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// logged is all that was logged.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) Members() []gossip.Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.members
}

func (w *world) Subscribe() (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := make(chan struct{}, 1)
	w.watchers = append(w.watchers, changed)
	return changed, func() {}
}

func (w *world) apply(ctx context.Context, cmd any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands = append(w.commands, cmd)
	if w.fail != nil {
		return w.fail
	}
	data, err := state.Encode(cmd, time.Now().UnixMilli(), mvcc.Origin{})
	if err != nil {
		return err
	}
	w.index++
	result := w.machine.Apply(&raft.Log{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data}).(state.Result)
	if result.Err != nil {
		return result.Err
	}
	return nil
}

// do applies what somebody else does.
func (w *world) do(cmd any) {
	w.t.Helper()
	if err := w.apply(context.Background(), cmd); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands = w.commands[:len(w.commands)-1]
}

// failWith makes every command fail from now on, or none if err is nil.
func (w *world) failWith(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

func (w *world) deps() Deps {
	return Deps{
		Pool: w, Self: w.node1, View: w.machine.View, Apply: w.apply,
		Now: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// node1 is the leader's node.
func (w *world) node1() catalog.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.self
}

// took returns the commands since it was last asked.
func (w *world) took() []any {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.commands
	w.commands = nil
	return c
}

func member(name, role string, status gossip.Status) gossip.Member {
	id := map[string]string{"s1": "00000000-0000-4000-8000-000000000001", "s2": "00000000-0000-4000-8000-000000000002", "c1": "00000000-0000-4000-8000-000000000003"}[name]
	return gossip.Member{
		Name: name, ID: id, Addr: netip.MustParseAddr("192.0.2." + name[1:]), Port: 8301, Status: status,
		Tags: map[string]string{"role": role, "port": "8300", "raft_vsn": "3", "build": "1.2.3:abcdef01"},
	}
}

// newWorld is that of the leader s1, which is alone.
func newWorld(t *testing.T) *world {
	s1 := member("s1", gossip.RoleServer, gossip.Alive)
	return &world{
		t: t, machine: state.NewMachine(), members: []gossip.Member{s1},
		self: catalog.Node{
			ID: s1.ID, Name: "s1", Address: "192.0.2.1",
			TaggedAddresses: map[string]string{"lan": "192.0.2.1", "wan": "198.51.100.1"}, Meta: map[string]string{"rack": "r1"},
		},
	}
}

// inTestTime does the leader's duties while check runs, and checks that they end
// with their context.
func inTestTime(t *testing.T, check func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, w.deps()) }()
		synctest.Wait()
		check(t, w)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the duties ended with %v", err)
			}
		default:
			t.Error("the duties go on")
		}
	})
}

// change replaces the members and lets the leader see it.
func (w *world) change(members ...gossip.Member) {
	w.mu.Lock()
	w.members = members
	for _, changed := range w.watchers {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	w.mu.Unlock()
	synctest.Wait()
}

func (w *world) node(name string) *catalog.NodeDetail {
	detail, _ := w.machine.View().Catalog.NodeServices(&catalog.NodeServices{Node: name}, nil)
	return detail
}

func (w *world) liveness(name string) *health.Check {
	checks, _ := w.machine.View().Health.NodeChecks(&health.NodeChecks{Node: name}, nil)
	for _, c := range checks {
		if c.ID == health.SerfHealth {
			return c
		}
	}
	return nil
}

func TestLeaderRegistersItself(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		if got := w.took(); len(got) != 1 {
			t.Fatalf("it took the commands %+v, want one", got)
		}
		detail := w.node("s1")
		if detail == nil {
			t.Fatal("the node is not there")
		}
		n := detail.Node
		if n.ID != w.self.ID || n.Address != w.self.Address || !maps.Equal(n.TaggedAddresses, w.self.TaggedAddresses) || !maps.Equal(n.Meta, w.self.Meta) {
			t.Errorf("the node is %+v", n)
		}
		if len(detail.Services) != 1 {
			t.Fatalf("the services are %+v", detail.Services)
		}
		s := detail.Services[0]
		if s.ID != "consul" || s.Name != "consul" || s.Port != 8300 || len(s.Tags) != 0 {
			t.Errorf("the service is %+v", s)
		}
		want := map[string]string{
			"non_voter": "false", "read_replica": "false", "raft_version": "3", "version": "1.2.3",
			"serf_protocol_current": "2", "serf_protocol_min": "1", "serf_protocol_max": "5",
		}
		if !maps.Equal(s.Meta, want) {
			t.Errorf("the service's metadata is %v, want %v", s.Meta, want)
		}
		c := w.liveness("s1")
		if c == nil || c.Status != health.Passing || c.Name != "Serf Health Status" || c.Output != "Agent alive and reachable" || c.ServiceID != "" {
			t.Errorf("its liveness is %+v", c)
		}
	})
}

func TestNothingIsWrittenWhenAllIsInPlace(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.change(w.members...)
		time.Sleep(10 * ReconcileInterval)
		if got := w.took(); len(got) != 0 {
			t.Errorf("it took the commands %+v", got)
		}
	})
}

func TestLeaderRepairsWhatSomebodyChanged(t *testing.T) {
	register := func(r *health.Register) *health.Register {
		if err := r.Normalize(); err != nil {
			panic(err)
		}
		return r
	}
	for _, c := range []struct {
		name string
		cmd  func(w *world) any
	}{
		{"its node is gone", func(*world) any { return &catalog.Deregister{Node: "s1"} }},
		{"its service is gone", func(*world) any { return &catalog.Deregister{Node: "s1", ServiceID: "consul"} }},
		{"its liveness is gone", func(*world) any { return &catalog.Deregister{Node: "s1", CheckID: health.SerfHealth} }},
		{"its address is wrong", func(w *world) any {
			n := w.self
			n.Address = "192.0.2.99"
			return register(&health.Register{Registration: catalog.Registration{Node: n}})
		}},
		{"its metadata is wrong", func(w *world) any {
			n := w.self
			n.Meta = nil
			return register(&health.Register{Registration: catalog.Registration{Node: n}})
		}},
		{"its service is wrong", func(w *world) any {
			return register(&health.Register{Registration: catalog.Registration{Node: w.self, Service: &catalog.Service{ID: "consul", Name: "consul", Port: 1}}})
		}},
		{"its liveness is wrong", func(w *world) any {
			return register(&health.Register{Registration: catalog.Registration{Node: w.self}, Checks: []health.Check{liveness("s1", health.Critical, "no")}})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTestTime(t, func(t *testing.T, w *world) {
				w.took()
				before := w.node("s1")
				w.do(c.cmd(w))
				time.Sleep(ReconcileInterval)
				synctest.Wait()
				if got := w.took(); len(got) != 1 {
					t.Errorf("it took the commands %+v, want one", got)
				}
				after := w.node("s1")
				if after == nil || !after.Node.Equal(before.Node) || len(after.Services) != 1 || !after.Services[0].Equal(before.Services[0]) {
					t.Errorf("it stands as %+v, before as %+v", after, before)
				}
				if l := w.liveness("s1"); l == nil || l.Status != health.Passing {
					t.Errorf("its liveness is %+v", l)
				}
			})
		})
	}
}

func TestLeaderFollowsItsOwnMetadata(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.mu.Lock()
		w.self.Meta = map[string]string{"rack": "r2"}
		w.mu.Unlock()
		time.Sleep(ReconcileInterval)
		synctest.Wait()
		if got := w.node("s1").Node.Meta; got["rack"] != "r2" || len(w.took()) != 1 {
			t.Errorf("the metadata is %v", got)
		}
	})
}

func TestMembersComeAndGo(t *testing.T) {
	alone := member("s1", gossip.RoleServer, gossip.Alive)
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.change(alone, member("c1", gossip.RoleClient, gossip.Alive), member("s2", gossip.RoleServer, gossip.Alive))
		if got := w.took(); len(got) != 2 {
			t.Errorf("two members came by the commands %+v", got)
		}
		c1, s2 := w.node("c1"), w.node("s2")
		if c1 == nil || c1.Node.Address != "192.0.2.1" || len(c1.Services) != 0 || w.liveness("c1").Status != health.Passing {
			t.Errorf("the client stands as %+v", c1)
		}
		if s2 == nil || len(s2.Services) != 1 || s2.Services[0].ID != "consul" {
			t.Errorf("the server stands as %+v", s2)
		}

		// What the member's own agent writes stays as it is.
		own := *c1.Node
		own.Meta = map[string]string{"own": "1"}
		r := &health.Register{Registration: catalog.Registration{Node: own, Service: &catalog.Service{ID: "web", Name: "web"}}}
		if err := r.Normalize(); err != nil {
			t.Fatal(err)
		}
		w.do(r)

		w.change(alone, member("c1", gossip.RoleClient, gossip.Failed), member("s2", gossip.RoleServer, gossip.Leaving))
		if got := w.took(); len(got) != 1 {
			t.Errorf("a failure was written by the commands %+v", got)
		}
		if l := w.liveness("c1"); l.Status != health.Critical || l.Output != "Agent not live or unreachable" {
			t.Errorf("the failed member's liveness is %+v", l)
		}
		if n := w.node("c1"); len(n.Services) != 1 || n.Node.Meta["own"] != "1" {
			t.Errorf("what stands on the failed member is %+v", n)
		}
		if l := w.liveness("s2"); l.Status != health.Passing {
			t.Errorf("a member that is leaving is %+v", l)
		}

		w.change(alone, member("c1", gossip.RoleClient, gossip.Alive), member("s2", gossip.RoleServer, gossip.Left))
		if got := w.took(); len(got) != 2 {
			t.Errorf("a return and a leave were written by the commands %+v", got)
		}
		if l, n := w.liveness("c1"), w.node("c1"); l.Status != health.Passing || n.Node.Meta["own"] != "1" {
			t.Errorf("the member that came back is %+v with %+v", n.Node, l)
		}
		if n := w.node("s2"); n != nil {
			t.Errorf("the server that left stands as %+v", n)
		}
		w.change(w.members...)
		if got := w.took(); len(got) != 0 {
			t.Errorf("a member that stays left is written by %+v", got)
		}
		w.change(alone)
		if w.node("c1") != nil || len(w.took()) != 1 {
			t.Error("a node whose member was reaped is still there")
		}
	})
}

// A node that was removed while its member is failed stays removed until that
// comes back.
func TestFailedMemberIsNotRegisteredAnew(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		alone, c1 := member("s1", gossip.RoleServer, gossip.Alive), member("c1", gossip.RoleClient, gossip.Alive)
		w.change(alone, c1)
		c1.Status = gossip.Failed
		w.change(alone, c1)
		if l := w.liveness("c1"); l.Status != health.Critical {
			t.Fatalf("the failed member's liveness is %+v", l)
		}
		w.do(&catalog.Deregister{Node: "c1"})
		w.took()
		time.Sleep(2 * ReconcileInterval)
		if got := w.took(); len(got) != 0 || w.node("c1") != nil {
			t.Errorf("the removed node was registered anew by %+v", got)
		}
		c1.Status = gossip.Alive
		w.change(alone, c1)
		if w.node("c1") == nil {
			t.Error("the member that came back has no node")
		}
	})
}

func TestLeaderNeverRemovesItself(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.change(member("s1", gossip.RoleServer, gossip.Left))
		if w.node("s1") == nil {
			t.Error("it removed itself as a member that left")
		}
		// Members are never without the leader, but a gap must not cost its node.
		w.change()
		if w.node("s1") == nil {
			t.Error("it removed itself as a node without a member")
		}
		if got := w.took(); len(got) != 0 {
			t.Errorf("it took the commands %+v", got)
		}
	})
}

func TestExternalNodesAreLeftAlone(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		r := &health.Register{
			Registration: catalog.Registration{Node: catalog.Node{Name: "external", Address: "203.0.113.1"}, Service: &catalog.Service{ID: "db", Name: "db"}},
			Checks:       []health.Check{{ID: "own", Name: "own", Status: health.Critical}},
		}
		if err := r.Normalize(); err != nil {
			t.Fatal(err)
		}
		w.do(r)
		before := w.node("external")
		w.change(w.members...)
		time.Sleep(2 * ReconcileInterval)
		if got := w.took(); len(got) != 0 || !reflect.DeepEqual(w.node("external"), before) {
			t.Errorf("it took the commands %+v", got)
		}
	})
}

func TestAFailedWriteIsTriedAgainSoon(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.failWith(errors.New("no quorum"))
		w.change(w.members[0], member("c1", gossip.RoleClient, gossip.Alive), member("s2", gossip.RoleServer, gossip.Alive))
		if got := w.took(); len(got) != 2 {
			t.Errorf("one failure kept the other member waiting: %+v", got)
		}
		time.Sleep(retryInterval)
		synctest.Wait()
		if got := w.took(); len(got) != 2 {
			t.Errorf("tried again by %+v", got)
		}
		w.failWith(nil)
		time.Sleep(retryInterval)
		synctest.Wait()
		if w.node("c1") == nil || w.node("s2") == nil {
			t.Error("the members are not there")
		}
		w.took()
		time.Sleep(retryInterval)
		synctest.Wait()
		if got := w.took(); len(got) != 0 {
			t.Errorf("once in place, it is written again: %+v", got)
		}
	})
}

func TestDeletionsAreForgottenAfterTheirTime(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		w.took()
		w.do(&kv.Set{Key: "a"})
		w.do(&kv.Delete{Key: "a"})
		const ttl = kv.TombstoneTTL * time.Millisecond
		time.Sleep(ttl - time.Second)
		synctest.Wait()
		if got := w.took(); len(got) != 0 {
			t.Errorf("a deletion was forgotten early: %+v", got)
		}
		w.failWith(errors.New("no quorum"))
		time.Sleep(2 * ReapInterval)
		synctest.Wait()
		if got := w.took(); len(got) == 0 {
			t.Error("the deletion is not forgotten")
		}
		w.failWith(nil)
		time.Sleep(ReapInterval)
		synctest.Wait()
		if got := w.took(); len(got) != 1 {
			t.Errorf("it is not tried again, but by %+v", got)
		}
		time.Sleep(ttl)
		synctest.Wait()
		if got := w.took(); len(got) != 0 {
			t.Errorf("nothing is left to forget, but it took %+v", got)
		}
	})
}

// After all servers were restarted, the leader does not know the other members at
// once: what stands on their nodes must not go for that.
func TestNodesOfMembersNotYetSeenAreKept(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		r := &health.Register{
			Registration: catalog.Registration{Node: catalog.Node{Name: "c9", Address: "192.0.2.9"}},
			Checks:       []health.Check{liveness("c9", health.Passing, health.SerfAlive)},
		}
		if err := r.Normalize(); err != nil {
			t.Fatal(err)
		}
		w.do(r)
		w.change(w.members...)
		if w.node("c9") == nil {
			t.Error("the node went at once")
		}
		time.Sleep(OrphanGrace + ReconcileInterval)
		synctest.Wait()
		if w.node("c9") != nil {
			t.Error("the node of nobody stands for ever")
		}
	})
}

// An agent that lost its ID and came back by its name before anybody missed it
// takes the place of what it was.
func TestReplacedMemberTakesItsName(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		before := member("c1", gossip.RoleClient, gossip.Alive)
		w.change(member("s1", gossip.RoleServer, gossip.Alive), before)
		after := before
		after.ID = "00000000-0000-4000-8000-000000000009"
		w.change(member("s1", gossip.RoleServer, gossip.Alive), after)
		synctest.Wait()
		if n := w.node("c1"); n == nil || n.Node.ID != after.ID {
			t.Errorf("the node is %+v, want the ID %s", n, after.ID)
		}
		if c := w.liveness("c1"); c == nil || c.Status != health.Passing {
			t.Errorf("its liveness is %+v", c)
		}
	})
}

// Two members whose names differ only in capital letters do not take the one node
// that the catalog has for both from each other.
func TestNamesInCapitalLettersAreOneNode(t *testing.T) {
	inTestTime(t, func(t *testing.T, w *world) {
		one := member("c1", gossip.RoleClient, gossip.Alive)
		other := member("C1", gossip.RoleClient, gossip.Alive)
		other.ID = "00000000-0000-4000-8000-000000000009"
		w.change(member("s1", gossip.RoleServer, gossip.Alive), one)
		w.took()
		w.change(member("s1", gossip.RoleServer, gossip.Alive), one, other)
		if got := w.took(); len(got) != 0 {
			t.Errorf("it took the commands %+v", got)
		}
		if n := w.node("c1"); n == nil || n.Node.ID != one.ID || n.Node.Name != "c1" {
			t.Errorf("the node is %+v", n)
		}
		// One that left by the name takes nothing from the one that lives.
		one.Status = gossip.Left
		w.change(member("s1", gossip.RoleServer, gossip.Alive), one, other)
		if n := w.node("c1"); n == nil || n.Node.ID != other.ID {
			t.Errorf("the node is %+v, want the ID %s", n, other.ID)
		}
	})
}
