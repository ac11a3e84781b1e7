package state

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// randomCommand makes a command on few names, so that commands meet.
func randomCommand(r *rand.Rand) any {
	key := fmt.Sprintf("k/%d/%d", r.IntN(4), r.IntN(6))
	node := fmt.Sprintf("n%d", r.IntN(5))
	service := fmt.Sprintf("s%d", r.IntN(4))
	statuses := []health.Status{health.Passing, health.Warning, health.Critical}
	switch r.IntN(18) {
	case 14, 15, 16, 17:
		return randomTransaction(r)
	case 0:
		return &kv.CAS{Key: key, Value: []byte{byte(r.IntN(3))}, Index: uint64(r.IntN(3)) * uint64(r.IntN(50))}
	case 1:
		return &kv.Delete{Key: key}
	case 2:
		return &kv.DeleteCAS{Key: key, Index: uint64(r.IntN(50))}
	case 3:
		return &kv.DeleteTree{Prefix: key[:r.IntN(4)]}
	case 4:
		return &kv.Reap{Index: uint64(r.IntN(300))}
	case 5:
		return &catalog.Deregister{Node: node}
	case 6:
		return &catalog.Deregister{Node: node, ServiceID: service}
	case 7:
		return &catalog.Deregister{Node: node, CheckID: "c" + service}
	case 8, 9, 10:
		reg := &health.Register{Registration: catalog.Registration{
			Node:           catalog.Node{Name: node, ID: fmt.Sprintf("id-%d", r.IntN(6)), Address: fmt.Sprintf("10.0.0.%d", r.IntN(3))},
			SkipNodeUpdate: r.IntN(4) == 0,
		}}
		if r.IntN(3) > 0 {
			reg.Service = &catalog.Service{ID: service, Name: fmt.Sprintf("web%d", r.IntN(3)), Port: r.IntN(2), Meta: map[string]string{"a": "b", "c": "d"}}
		}
		for range r.IntN(3) {
			owner := ""
			if r.IntN(2) == 0 {
				owner = service
			}
			reg.Checks = append(reg.Checks, health.Check{ID: "c" + service, ServiceID: owner, Status: statuses[r.IntN(3)]})
		}
		return reg
	default:
		return &kv.Set{Key: key, Value: []byte{byte(r.IntN(3))}, Flags: uint64(r.IntN(2))}
	}
}

func randomLog(tb testing.TB, seed uint64, n int) []*raft.Log {
	r := rand.New(rand.NewPCG(seed, 1))
	logs := make([]*raft.Log, n)
	for i := range logs {
		logs[i] = entry(tb, uint64(i+1), randomCommand(r))
	}
	return logs
}

// rowsOf is everything in a view that a snapshot would hold.
func rowsOf(v *View) []any {
	var out []any
	v.Rows(func(row any) bool { out = append(out, row); return true })
	return out
}

func mustEqual(t *testing.T, what string, got, want *View) {
	t.Helper()
	if got.Index != want.Index || got.At != want.At || got.Hash() != want.Hash() {
		t.Errorf("%s: index %d at %d hash %s, want %d at %d hash %s", what, got.Index, got.At, got.Hash(), want.Index, want.At, want.Hash())
	}
	if !reflect.DeepEqual(rowsOf(got), rowsOf(want)) {
		t.Errorf("%s: rows\n%+v, want\n%+v", what, rowsOf(got), rowsOf(want))
	}
	answers(t, what, got, want)
}

// answers compares what two views say to every kind of question, which also
// holds the maps that are derived from the rows to account.
func answers(t *testing.T, what string, got, want *View) {
	t.Helper()
	var queries []any
	for i := range 6 {
		node, name := fmt.Sprintf("n%d", i), fmt.Sprintf("web%d", i)
		queries = append(queries,
			&kv.Get{Key: fmt.Sprintf("k/0/%d", i)}, &kv.List{Prefix: fmt.Sprintf("k/%d", i)}, &kv.Keys{Prefix: "k", Separator: "/"}, &kv.List{},
			&catalog.NodeQuery{Name: node}, &catalog.Nodes{}, &catalog.NodeServices{Node: node}, &catalog.NodeServices{Node: fmt.Sprintf("id-%d", i)},
			&catalog.Instances{Service: name}, &catalog.Instances{}, &catalog.Services{}, &catalog.AddressQuery{Address: fmt.Sprintf("10.0.0.%d", i)},
			&health.ServiceQuery{Service: name}, &health.NodeChecks{Node: node}, &health.ServiceChecks{Service: name}, &health.StateChecks{State: "any"})
	}
	for _, q := range queries {
		g, err1 := got.Answer(q, nil)
		w, err2 := want.Answer(q, nil)
		if err1 != nil || err2 != nil || !reflect.DeepEqual(g, w) {
			t.Errorf("%s: %T%+v answers %+v (%v), want %+v (%v)", what, q, q, g, err1, w, err2)
		}
	}
}

func TestHashEqualsARecountAndSurvivesARestore(t *testing.T) {
	for seed := range uint64(20) {
		m := NewMachine()
		for i, l := range randomLog(t, seed, 300) {
			m.Apply(l)
			if i%37 == 0 {
				if got, want := m.View().Hash(), m.View().Recount(); got != want {
					t.Fatalf("seed %d, step %d: kept hash %s, recount %s", seed, i, got, want)
				}
			}
		}
		var b bytes.Buffer
		if err := WriteSnapshot(&b, m.View()); err != nil {
			t.Fatal(err)
		}
		restored := NewMachine()
		if err := restored.Restore(io.NopCloser(&b)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		mustEqual(t, fmt.Sprintf("seed %d restored", seed), restored.View(), m.View())
		if got := restored.View().Recount(); got != m.View().Hash() {
			t.Errorf("seed %d: recount after restore %s, want %s", seed, got, m.View().Hash())
		}
	}
}

func TestMachinesFedOneLogAreEqual(t *testing.T) {
	logs := randomLog(t, 7, 500)
	one, batched := NewMachine(), NewMachine()
	for _, l := range logs {
		one.Apply(l)
	}
	for i := 0; i < len(logs); i += 64 {
		batched.ApplyBatch(logs[i:min(i+64, len(logs))])
	}
	mustEqual(t, "in batches", batched.View(), one.View())
	var a, b bytes.Buffer
	if err := WriteSnapshot(&a, one.View()); err != nil {
		t.Fatal(err)
	}
	if err := WriteSnapshot(&b, batched.View()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("equal states wrote different snapshots")
	}
}

func TestReplayFromAnyKeptViewToAnyLaterOne(t *testing.T) {
	m := NewMachine()
	for _, l := range randomLog(t, 3, 120) {
		m.Apply(l)
	}
	all, err := m.History().Since(m.History().Oldest())
	if err != nil {
		t.Fatal(err)
	}
	views := append([]Record{{View: newView()}}, all...)
	for from := range views {
		for to := from; to < len(views); to += 1 + (to-from)/3 {
			got := views[from].View.Replay(views[from+1 : to+1])
			want := views[to].View
			if got.Hash() != want.Hash() || !reflect.DeepEqual(rowsOf(got), rowsOf(want)) {
				t.Fatalf("from %d to %d: hash %s, want %s", views[from].View.Index, want.Index, got.Hash(), want.Hash())
			}
		}
	}
	mustEqual(t, "replayed whole", views[0].View.Replay(all), all[len(all)-1].View)
}

func TestFieldsThatTheHashSees(t *testing.T) {
	for table := range 256 {
		row := newRow(byte(table))
		if row == nil {
			continue
		}
		fill(t, row)
		rows := newRowEncoder()
		base := mvcc.HashRow(rows.append(nil, row))
		seen := 0
		eachField(t, row, func(path string) {
			seen++
			if mvcc.HashRow(rows.append(nil, row)) == base {
				t.Errorf("table %d: a change of %s does not change the hash", table, path)
			}
		})
		if seen < 2 {
			t.Errorf("table %d: only %d fields were tried", table, seen)
		}
		if mvcc.HashRow(rows.append(nil, row)) != base {
			t.Errorf("table %d: the row was not put back", table)
		}
	}
}

func TestRowsSurviveTheSnapshotWithEveryField(t *testing.T) {
	for table := range 256 {
		row := newRow(byte(table))
		if row == nil {
			continue
		}
		fill(t, row)
		tx := newView().begin(newRowEncoder(), 9, 9)
		tx.load(nil, row)
		var b bytes.Buffer
		if err := WriteSnapshot(&b, tx.commit()); err != nil {
			t.Fatal(err)
		}
		v, err := ReadSnapshot(&b)
		if err != nil {
			t.Fatalf("table %d: %v", table, err)
		}
		if got := rowsOf(v); len(got) != 1 || !reflect.DeepEqual(got[0], row) {
			t.Errorf("table %d: got %+v, want %+v", table, got, row)
		}
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	m := NewMachine()
	for i, at := range []int64{100, 50, 120} {
		b, err := Encode(&kv.Set{Key: fmt.Sprint(i)}, at, mvcc.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(&raft.Log{Index: uint64(i + 1), Data: b})
		if want := []int64{100, 100, 120}[i]; m.View().At != want {
			t.Errorf("after %d: at %d, want %d", at, m.View().At, want)
		}
	}
	v, err := m.History().AtTime(110)
	if err != nil || v.Index != 2 {
		t.Errorf("view at 110: %+v, %v", v, err)
	}
}

func TestRefusedCommandChangesNothing(t *testing.T) {
	m := NewMachine()
	m.Apply(entry(t, 1, registration(1, 80)))
	before := m.View()
	reg := registration(2, 80)
	reg.Checks = append(reg.Checks, health.Check{ID: "x", ServiceID: "nope"})
	res := m.Apply(entry(t, 2, reg)).(Result)
	if res.Err == nil || res.Err.Text != "Unknown service ID 'nope' for check ID 'x'" {
		t.Errorf("result %+v", res)
	}
	if m.View() != before {
		t.Error("a refused registration left something behind")
	}
}

func TestClusterIDIsMadeOnce(t *testing.T) {
	m := NewMachine()
	m.Apply(entry(t, 1, &Begin{Cluster: ClusterID{1}}))
	m.Apply(entry(t, 2, &Begin{Cluster: ClusterID{2}}))
	if got := m.View().Cluster(); got != (ClusterID{1}) {
		t.Errorf("cluster %x", got)
	}
}

func TestRestoreWakesAllWhoWait(t *testing.T) {
	m := NewMachine()
	m.Apply(entry(t, 1, &kv.Set{Key: "a"}))
	old := m.View()
	var b bytes.Buffer
	if err := WriteSnapshot(&b, old); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(io.NopCloser(&b)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.Gone():
	default:
		t.Error("those who wait on the old line of views were not woken")
	}
	if err := m.Restore(io.NopCloser(bytes.NewReader([]byte("nonsense")))); err == nil {
		t.Error("nonsense was restored")
	}
	if _, err := m.History().Since(0); mvcc.CodeOf(err) != mvcc.Compacted {
		t.Errorf("history before a restore: %v", err)
	}
}

func TestHistoryIsBoundedByBytes(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 60_000
	}
	m := NewMachine()
	value := make([]byte, 1024)
	batch := make([]*raft.Log, 0, 64)
	for i := range n {
		value[0], value[1], value[2] = byte(i), byte(i>>8), byte(i>>16)
		batch = append(batch, entry(t, uint64(i+1), &kv.Set{Key: fmt.Sprintf("app/%d", i%20_000), Value: value}))
		if len(batch) == cap(batch) || i == n-1 {
			m.ApplyBatch(batch)
			batch = batch[:0]
		}
		if got := m.History().Bytes(); got > MaxHistoryBytes {
			t.Fatalf("after %d writes the history is charged with %d bytes, limit %d", i+1, got, MaxHistoryBytes)
		}
	}
	if m.View().KV.Len() != 20_000 {
		t.Errorf("%d keys", m.View().KV.Len())
	}
	steps, err := m.History().Since(m.History().Oldest())
	if err != nil || len(steps) < 1000 {
		t.Fatalf("%d steps are kept, %v", len(steps), err)
	}
	if got := steps[0].View.Replay(steps[1:]); got.Hash() != m.View().Hash() {
		t.Errorf("replayed hash %s, want %s", got.Hash(), m.View().Hash())
	}
	steps = nil

	// What the history really keeps alive is no more than what it is charged with.
	charged := m.History().Bytes()
	with := heap()
	m.history.reset(m.View())
	kept := int(with) - int(heap())
	t.Logf("%d writes: charged %d bytes, kept alive %d bytes", n, charged, kept)
	if kept > charged {
		t.Errorf("the history kept %d bytes alive and was charged with %d", kept, charged)
	}
	runtime.KeepAlive(m)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func TestHistoryNamesItsOldestView(t *testing.T) {
	m := NewMachine()
	for i := range MaxHistoryChanges + 10 {
		m.Apply(entry(t, uint64(i+1), &kv.Set{Key: "k", Value: []byte(fmt.Sprint(i))}))
	}
	oldest := m.History().Oldest()
	if oldest < 10 {
		t.Fatalf("oldest is %d: nothing was forgotten", oldest)
	}
	want := fmt.Sprintf("index %d is before the history, whose oldest view is index %d", oldest-1, oldest)
	if _, err := m.History().At(oldest - 1); mvcc.CodeOf(err) != mvcc.Compacted || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if v, err := m.History().At(oldest); err != nil || v.Index != oldest {
		t.Errorf("oldest view: %v", err)
	}
	if steps, err := m.History().Since(m.View().Index); err != nil || len(steps) != 0 {
		t.Errorf("since now: %d steps, %v", len(steps), err)
	}
}
