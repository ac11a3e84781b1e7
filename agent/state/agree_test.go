package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// watched is a machine that notes what it is told of mismatches.
type watched struct {
	*Machine
	told []Mismatch
}

func newWatched() *watched {
	w := &watched{Machine: NewMachine()}
	w.OnMismatch = func(index uint64, want, have mvcc.Sum) { w.told = append(w.told, Mismatch{index, want, have}) }
	return w
}

func set(tb testing.TB, index uint64, value string) *raft.Log {
	return entry(tb, index, &kv.Set{Key: fmt.Sprintf("k%d", index%10), Value: []byte(value)})
}

func TestAServerThatDiffersFindsOut(t *testing.T) {
	leader, follower, other := newWatched(), newWatched(), newWatched()
	for i := uint64(1); i <= 20; i++ {
		leader.Apply(set(t, i, "v"))
		follower.Apply(set(t, i, "v"))
		other.Apply(set(t, i, map[bool]string{true: "w", false: "v"}[i == 15]))
	}
	have := other.View().Hash()
	want := leader.View().Hash()
	check := leader.Check()
	if check.Index != 20 || check.Hash != want {
		t.Fatalf("check %+v", check)
	}
	before := leader.View()
	for _, m := range []*watched{leader, follower, other} {
		// The state goes on before the check comes: it is compared at its own index.
		m.ApplyBatch([]*raft.Log{set(t, 21, "x"), set(t, 22, "y"), entry(t, 23, check), set(t, 24, "z"), entry(t, 25, check)})
	}
	for name, m := range map[string]*watched{"leader": leader, "follower": follower} {
		if len(m.told) != 0 || m.Mismatch() != nil {
			t.Errorf("the %s was told of %v", name, m.told)
		}
	}
	found := Mismatch{20, want, have}
	if len(other.told) != 1 || other.told[0] != found || *other.Mismatch() != found {
		t.Errorf("the one that differs was told of %v, want once %v", other.told, found)
	}
	text := fmt.Sprintf("this server's state differs from the leader's at index 20: its hash is %s, the leader's %s", have, want)
	if other.Mismatch().Error() != text {
		t.Errorf("%s", other.Mismatch().Error())
	}
	if before.Index != 20 || leader.View().Index != 24 {
		t.Errorf("index %d", leader.View().Index)
	}
}

func TestACheckIsComparedAtItsOwnIndex(t *testing.T) {
	leader, other := newWatched(), newWatched()
	for i := uint64(1); i <= 20; i++ {
		leader.Apply(set(t, i, "v"))
		other.Apply(set(t, i, "v"))
	}
	early := leader.Check()
	leader.Apply(set(t, 21, "v1"))
	other.Apply(set(t, 21, "v2"))
	late := leader.Check()
	// What differs only after the check's index is none of its business.
	other.Apply(entry(t, 22, early))
	if len(other.told) != 0 {
		t.Fatalf("told of %v", other.told)
	}
	other.Apply(entry(t, 23, late))
	if len(other.told) != 1 || other.told[0].Index != 21 {
		t.Fatalf("told of %v", other.told)
	}
}

func TestACheckChangesNothing(t *testing.T) {
	m := newWatched()
	m.Apply(set(t, 1, "v"))
	v := m.View()
	if res := m.Apply(entry(t, 2, m.Check())).(Result); !res.OK || m.View() != v {
		t.Errorf("%+v, view of index %d", res, m.View().Index)
	}
	if n := len(m.hashes.ring); n != 2 {
		t.Errorf("%d hashes are remembered", n)
	}
	// Its index moves on without the view's, so that the next one says more.
	if c := m.Check(); c.Index != 2 || c.Hash != v.Hash() {
		t.Errorf("check %+v", c)
	}
	// An older server skips it, or all would diverge in an upgrade.
	if kindCheckHash&kindMaySkip == 0 {
		t.Error("the kind may not be skipped")
	}
	// A check of the future or of itself is none.
	m.Apply(entry(t, 5, &CheckHash{Index: 5}))
	m.Apply(entry(t, 6, &CheckHash{Index: 900}))
	if len(m.told) != 0 {
		t.Errorf("told of %v", m.told)
	}
}

func TestHashesAreRememberedBeyondTheHistory(t *testing.T) {
	leader, other := newWatched(), newWatched()
	var checks []*CheckHash
	const limit = MaxHistoryChanges + 4000 // fewer than there are, to be quick
	const n = limit + 5000
	leader.hashes.limit, other.hashes.limit = limit, limit
	batch := make([]*raft.Log, 0, 500)
	for i := uint64(1); i <= n; i++ {
		batch = append(batch, set(t, i, fmt.Sprint(i)))
		if len(batch) < cap(batch) {
			continue
		}
		leader.ApplyBatch(batch)
		if i == 5000 {
			// Another value with the same key, and equal again at once.
			odd := append([]*raft.Log(nil), batch...)
			odd[3] = set(t, odd[3].Index, "odd")
			other.ApplyBatch(odd)
		} else {
			other.ApplyBatch(batch)
		}
		batch = batch[:0]
		checks = append(checks, leader.Check())
	}
	if oldest := leader.History().Oldest(); oldest < 6000 {
		t.Fatalf("the history begins at %d: nothing was tried beyond it", oldest)
	}
	if leader.View().Hash() != other.View().Hash() {
		t.Fatal("the two should be equal again")
	}
	if len(leader.hashes.ring) != limit {
		t.Errorf("%d hashes are remembered", len(leader.hashes.ring))
	}
	index := uint64(n)
	for _, c := range checks {
		index++
		leader.Apply(entry(t, index, c))
	}
	if len(leader.told) != 0 {
		t.Errorf("false alarm: %v", leader.told)
	}
	oldest := other.hashes.ring[other.hashes.next].index
	if oldest <= 4504 || oldest > 10_000 {
		t.Fatalf("the oldest hash is of index %d", oldest)
	}
	// The hash where they differed is forgotten: no answer, and no alarm.
	other.Apply(entry(t, index+1, &CheckHash{Index: 4504}))
	if len(other.told) != 0 {
		t.Errorf("told of %v", other.told)
	}
	other.Apply(entry(t, index+2, &CheckHash{Index: oldest}))
	if len(other.told) != 1 || other.told[0].Index != oldest {
		t.Errorf("told of %v", other.told)
	}
}

func TestACheckFromBeforeARestoreAlarmsNobody(t *testing.T) {
	m := newWatched()
	for i := uint64(1); i <= 30; i++ {
		m.Apply(set(t, i, "v"))
	}
	old := m.Check() // index 30
	// An archive of another time is restored: the same indexes stand for other
	// contents.
	archive := NewMachine()
	for i := uint64(1); i <= 25; i++ {
		archive.Apply(set(t, i, "of another time"))
	}
	var b bytes.Buffer
	if err := WriteSnapshot(&b, archive.View()); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(io.NopCloser(&b)); err != nil {
		t.Fatal(err)
	}
	fresh := m.Check()
	m.Apply(entry(t, 32, old))
	m.Apply(entry(t, 33, fresh))
	if len(m.told) != 0 {
		t.Errorf("told of %v", m.told)
	}
	// From the first entry on it compares again.
	m.Apply(entry(t, 34, &CheckHash{Index: 32}))
	if len(m.told) != 1 {
		t.Error("after a restore nothing is compared any more")
	}
}

func offered(tb testing.TB, m *Machine) *bytes.Buffer {
	tb.Helper()
	var b bytes.Buffer
	if err := m.Offer(&b); err != nil {
		tb.Fatal(err)
	}
	return &b
}

// mixedLog is a log of every kind of command, refused ones and checks too.
func mixedLog(tb testing.TB, seed uint64, n int) []*raft.Log {
	r := rand.New(rand.NewPCG(seed, 2))
	logs := randomLog(tb, seed, n)
	for i := range logs {
		index := uint64(i + 1)
		switch r.IntN(12) {
		case 0:
			logs[i] = entry(tb, index, &CheckHash{})
		case 1:
			bad := registration(i, 80)
			bad.Checks = append(bad.Checks, health.Check{ID: "x", ServiceID: "nope"})
			logs[i] = entry(tb, index, bad)
		case 2:
			logs[i] = entry(tb, index, &SetAutopilot{Config: DefaultAutopilot(), CAS: r.IntN(2) == 0})
		}
	}
	return logs
}

// TestAdoptAtAnyPlaceOfTheLog lets a server whose state went wrong take over the
// leader's, at any distance between the two, and go on; once it was restarted
// from a snapshot that it took in between.
func TestAdoptAtAnyPlaceOfTheLog(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 3))
		logs := mixedLog(t, seed, 120)
		offers := 1 + r.IntN(len(logs)) // what the leader had applied
		has := r.IntN(offers + 1)       // what the other had
		leader, other := newWatched(), newWatched()
		for i, l := range logs {
			if i < offers {
				leader.Apply(l)
			}
			if i < has {
				wrong := *l
				if r.IntN(3) == 0 {
					wrong.Data = mustEncode(t, &kv.Set{Key: fmt.Sprint("wrong", i)})
				}
				other.Apply(&wrong)
			}
		}
		wrong := other.View()
		if err := other.Adopt(offered(t, leader.Machine)); err != nil {
			t.Fatalf("seed %d, at %d of %d: %v", seed, has, offers, err)
		}
		mustEqual(t, fmt.Sprintf("seed %d adopted", seed), other.View(), leader.View())
		if other.View().Line() != wrong.Line()+1 {
			t.Errorf("line %d after %d", other.View().Line(), wrong.Line())
		}
		// Raft's snapshot stands at what it applied itself, in which the view is newer.
		snapshotAt := has + r.IntN(len(logs)-has+1)
		var disk bytes.Buffer
		for i, l := range logs {
			if i >= offers {
				leader.Apply(l)
			}
		}
		for i, l := range logs[has:] {
			if has+i == snapshotAt {
				if err := WriteSnapshot(&disk, other.View()); err != nil {
					t.Fatal(err)
				}
			}
			passed := l.Index <= other.View().Index
			res := other.Apply(l).(Result)
			if passed && mvcc.CodeOf(res.Err) != mvcc.Timeout {
				t.Errorf("seed %d: entry %d, which came with the state, is said to be %+v", seed, l.Index, res)
			}
		}
		mustEqual(t, fmt.Sprintf("seed %d at the end", seed), other.View(), leader.View())
		if disk.Len() == 0 {
			continue
		}
		again := NewMachine()
		if err := again.Restore(io.NopCloser(&disk)); err != nil {
			t.Fatal(err)
		}
		for _, l := range logs[snapshotAt:] {
			again.Apply(l)
		}
		mustEqual(t, fmt.Sprintf("seed %d restarted", seed), again.View(), leader.View())
	}
}

func TestAdoptEndsAMismatchAndWakesAllWhoWait(t *testing.T) {
	leader, other := newWatched(), newWatched()
	for i := uint64(1); i <= 9; i++ {
		leader.Apply(set(t, i, "v"))
		other.Apply(set(t, i, "w"))
	}
	check := entry(t, 10, leader.Check())
	leader.Apply(check)
	other.Apply(check)
	if other.Mismatch() == nil {
		t.Fatal("no mismatch to begin with")
	}
	old := other.View()
	if err := other.Adopt(offered(t, leader.Machine)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.Gone():
	default:
		t.Error("those who wait on the old state were not woken")
	}
	if other.Mismatch() != nil || other.View().Hash() != leader.View().Hash() {
		t.Errorf("mismatch %v, hash %s", other.Mismatch(), other.View().Hash())
	}
	if _, err := other.History().Since(1); mvcc.CodeOf(err) != mvcc.Compacted {
		t.Errorf("the history of the old state is still there: %v", err)
	}
	// What was taken over is compared from then on, and a new fault found anew.
	next := entry(t, 11, leader.Check())
	other.Apply(next)
	if other.Mismatch() != nil {
		t.Errorf("mismatch %v", other.Mismatch())
	}
	other.Apply(set(t, 12, "w"))
	other.Apply(entry(t, 13, &CheckHash{Index: 12, Hash: leader.View().Hash()}))
	if other.Mismatch() == nil || len(other.told) != 2 {
		t.Errorf("told of %v", other.told)
	}
}

func TestOffersThatAreRefused(t *testing.T) {
	mine, theirs := ClusterID{1}, ClusterID{2}
	leader, m := NewMachine(), NewMachine()
	for _, x := range []*Machine{leader, m} {
		x.Apply(entry(t, 1, &Begin{Cluster: mine}))
		x.Apply(set(t, 2, "v"))
	}
	early := offered(t, leader).Bytes()
	m.Apply(set(t, 3, "v"))
	stranger := NewMachine()
	stranger.Apply(entry(t, 1, &Begin{Cluster: theirs}))
	stranger.Apply(set(t, 20, "v"))
	before := m.View()

	if err := m.Adopt(bytes.NewReader(early)); !errors.Is(err, ErrBehind) || !strings.Contains(err.Error(), "it holds the log up to 2, this server has applied 3") {
		t.Errorf("an offer that is behind: %v", err)
	}
	if err := m.Adopt(offered(t, stranger)); err == nil || !strings.Contains(err.Error(), "cluster 02") {
		t.Errorf("an offer of another cluster: %v", err)
	}
	// An entry that changes nothing brings the leader up, though not its view.
	leader.Apply(entry(t, 3, leader.Check()))
	good := offered(t, leader).Bytes()
	for i := range good {
		bent := append([]byte{}, good...)
		bent[i] ^= 0x10
		if err := m.Adopt(bytes.NewReader(bent)); err == nil {
			t.Fatalf("an offer with a bit changed in byte %d was adopted", i)
		}
		if err := m.Adopt(bytes.NewReader(good[:i])); err == nil {
			t.Fatalf("an offer cut off after %d bytes was adopted", i)
		}
	}
	if m.View() != before {
		t.Error("a refused offer changed the state")
	}
	if err := m.Adopt(bytes.NewReader(good)); err != nil {
		t.Error(err)
	}
}

func TestAdoptCountsEntriesThatChangedNothing(t *testing.T) {
	leader, m := NewMachine(), newWatched()
	other := registration(2, 80)
	other.Service.ID, other.Checks = "other", nil
	for i := uint64(1); i <= 9; i++ {
		leader.Apply(set(t, i, "v"))
		m.Apply(set(t, i, "v"))
	}
	leader.Apply(entry(t, 10, other))
	m.Apply(set(t, 10, "v"))
	m.Apply(set(t, 11, "wrong"))
	// Entry 12 changes something on the leader. Here it was refused, so the view
	// stands at 11: still the log does not bring it again.
	bad := registration(1, 80)
	bad.SkipNodeUpdate = true
	bad.Checks = append(bad.Checks, health.Check{ID: "x", ServiceID: "other"})
	both := entry(t, 12, bad)
	if res := m.Apply(both).(Result); res.Err == nil || m.View().Index != 11 {
		t.Fatalf("%+v, view of index %d", res, m.View().Index)
	}
	leader.Apply(set(t, 11, "v"))
	if err := m.Adopt(offered(t, leader)); !errors.Is(err, ErrBehind) {
		t.Errorf("an offer without entry 12: %v", err)
	}
	if res := leader.Apply(both).(Result); res.Err != nil {
		t.Fatal(res.Err)
	}
	leader.Apply(set(t, 13, "v"))
	late := leader.Check()
	for i := uint64(14); i <= 20; i++ {
		leader.Apply(set(t, i, "v"))
	}
	// The offer holds the log up to 21, where its view stands at 20.
	leader.Apply(entry(t, 21, late))
	if err := m.Adopt(offered(t, leader)); err != nil {
		t.Fatal(err)
	}
	if c := m.Check(); c.Index != 21 {
		t.Errorf("the next check would be of index %d", c.Index)
	}
	// What the state was before the offer is not known here: no alarm.
	for i := uint64(13); i <= 20; i++ {
		m.Apply(set(t, i, "v"))
	}
	m.Apply(entry(t, 21, late))
	if len(m.told) != 0 {
		t.Errorf("told of %v", m.told)
	}
	mustEqual(t, "at the end", m.View(), leader.View())
}

// TestAdoptWhileTheLogGoesOn lets the race detector look at a swap under load.
func TestAdoptWhileTheLogGoesOn(t *testing.T) {
	logs := mixedLog(t, 9, 600)
	leader, m := NewMachine(), NewMachine()
	var work sync.WaitGroup
	gate := make(chan int, len(logs)) // how far the leader is: the other never passes it
	work.Go(func() {
		defer close(gate)
		for i := 0; i < len(logs); i += 7 {
			leader.ApplyBatch(logs[i:min(i+7, len(logs))])
			gate <- min(i+7, len(logs))
		}
	})
	work.Go(func() {
		from := 0
		for to := range gate {
			m.ApplyBatch(logs[from:to])
			from = to
		}
	})
	stop := make(chan struct{})
	var beside sync.WaitGroup
	adopted := 0
	beside.Go(func() {
		for {
			switch err := m.Adopt(offered(t, leader)); {
			case err == nil:
				adopted++
			case !errors.Is(err, ErrBehind):
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	beside.Go(func() {
		for {
			v := m.View()
			if v.Recount() != v.Hash() {
				t.Error("a view was seen whose hash does not hold")
			}
			m.Check()
			if _, err := m.Snapshot(); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	work.Wait()
	close(stop)
	beside.Wait()
	mustEqual(t, "at the end", m.View(), leader.View())
	if adopted == 0 {
		t.Error("nothing was adopted")
	}
}

// slowOffer is an offer whose snapshot comes when the log has gone on.
type slowOffer struct {
	rest   *bytes.Buffer
	goesOn func()
	begun  bool
}

func (s *slowOffer) Read(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		return s.rest.Read(b[:offerHeader+4])
	}
	if s.goesOn != nil {
		s.goesOn()
		s.goesOn = nil
	}
	return s.rest.Read(b)
}

// Where the log goes on while an offer comes in, only one is taken over for which
// the log waits.
func TestAdoptWhileTheLogGoesOnAllTheTime(t *testing.T) {
	leader := NewMachine()
	leader.Apply(set(t, 1, "1"))
	leader.Apply(set(t, 2, "2"))

	behind := NewMachine()
	if err := behind.Adopt(&slowOffer{rest: offered(t, leader), goesOn: func() { behind.Apply(set(t, 3, "3")) }}); !errors.Is(err, ErrBehind) {
		t.Errorf("an offer that the log had overtaken: %v", err)
	}
	held, applied := NewMachine(), make(chan struct{})
	goesOn := func() {
		go func() {
			defer close(applied)
			held.Apply(set(t, 3, "3"))
		}()
	}
	if err := held.AdoptHeld(&slowOffer{rest: offered(t, leader), goesOn: goesOn}); err != nil {
		t.Fatal(err)
	}
	<-applied
	leader.Apply(set(t, 3, "3"))
	if got, want := held.View(), leader.View(); got.Index != want.Index || got.Hash() != want.Hash() {
		t.Errorf("after it the state is %s at %d, want %s at %d", got.Hash(), got.Index, want.Hash(), want.Index)
	}
}

func FuzzAdopt(f *testing.F) {
	m := NewMachine()
	f.Add(offered(f, m).Bytes())
	for _, l := range randomLog(f, 3, 30) {
		m.Apply(l)
	}
	f.Add(offered(f, m).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m := NewMachine()
		before := m.View()
		if err := m.Adopt(bytes.NewReader(b)); err != nil {
			if m.View() != before {
				t.Error("a refused offer changed the state")
			}
			return
		}
		if v := m.View(); v.Recount() != v.Hash() {
			t.Error("an offer was adopted whose hash does not hold")
		}
	})
}
