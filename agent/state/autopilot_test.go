package state

import (
	"bytes"
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

func TestAutopilotConfiguration(t *testing.T) {
	m := NewMachine()
	want := AutopilotConfig{CleanupDeadServers: true, LastContactThreshold: 200 * time.Millisecond, MaxTrailingLogs: 250, ServerStabilizationTime: 10 * time.Second}
	if got, ok := m.View().Autopilot(); ok || got != want {
		t.Errorf("without one: %+v, %v", got, ok)
	}
	var w mvcc.Watch
	a, err := m.View().Answer(&Autopilot{}, &w)
	if err != nil || a.Value != (*AutopilotConfig)(nil) || !a.Missing || a.Index != 1 {
		t.Errorf("answer without one: %+v, %v", a, err)
	}
	put := func(index uint64, cas bool, at uint64, contact time.Duration) bool {
		c := DefaultAutopilot()
		c.LastContactThreshold, c.CreateIndex, c.ModifyIndex = contact, 77, 78
		res := m.Apply(entry(t, index, &SetAutopilot{Config: c, CAS: cas, Index: at})).(Result)
		return res.OK
	}
	steps := []struct {
		index    uint64
		cas      bool
		at       uint64
		ok       bool
		create   uint64
		modified uint64
	}{
		{5, true, 3, false, 0, 0},
		{6, true, 0, true, 6, 6}, // what the configuration file says, when there is none
		{7, true, 0, false, 6, 6},
		{8, true, 5, false, 6, 6},
		{9, true, 6, true, 6, 9},
		{10, false, 0, true, 6, 10},
	}
	for _, s := range steps {
		before := m.View()
		if got := put(s.index, s.cas, s.at, time.Duration(s.index)); got != s.ok {
			t.Errorf("index %d: %v, want %v", s.index, got, s.ok)
		}
		got, ok := m.View().Autopilot()
		if ok != (s.create > 0) || ok && (got.CreateIndex != s.create || got.ModifyIndex != s.modified || got.LastContactThreshold != time.Duration(s.modified)) {
			t.Errorf("index %d: %+v, %v", s.index, got, ok)
		}
		if !s.ok && m.View().Hash() != before.Hash() {
			t.Errorf("index %d: a refused write changed something", s.index)
		}
	}
	if m.View().Recount() != m.View().Hash() {
		t.Error("the hash does not hold")
	}
	a, err = m.View().Answer(&Autopilot{}, nil)
	if err != nil || a.Missing || a.Index != 10 || a.Value.(*AutopilotConfig).ModifyIndex != 10 {
		t.Errorf("answer: %+v, %v", a, err)
	}
	var b bytes.Buffer
	if err := WriteSnapshot(&b, m.View()); err != nil {
		t.Fatal(err)
	}
	v, err := ReadSnapshot(&b)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := m.View().Autopilot()
	if two, ok := v.Autopilot(); !ok || one != two {
		t.Errorf("after a snapshot %+v", two)
	}
}

func TestAutopilotWakesWhoWaits(t *testing.T) {
	m := NewMachine()
	m.Apply(entry(t, 1, &SetAutopilot{Config: DefaultAutopilot()}))
	var w mvcc.Watch
	if _, err := m.View().Answer(&Autopilot{}, &w); err != nil {
		t.Fatal(err)
	}
	m.Apply(entry(t, 2, &SetAutopilot{Config: DefaultAutopilot()}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !w.Wait(ctx, nil) {
		t.Error("not woken")
	}
}

func TestSnapshotWithABadAutopilotRowIsRefused(t *testing.T) {
	tx := newView().begin(newRowEncoder(), 1, 1)
	tx.Facts().Set(factAutopilot, &Fact{Name: factAutopilot, Value: []byte{0xff}})
	var b bytes.Buffer
	if err := WriteSnapshot(&b, tx.commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSnapshot(&b); err == nil {
		t.Error("it was read")
	}
}

func TestUsage(t *testing.T) {
	m := NewMachine()
	index := uint64(0)
	put := func(node, id, name, kind string, native bool) {
		index++
		m.Apply(entry(t, index, &health.Register{Registration: catalog.Registration{
			Node:    catalog.Node{Name: node, Address: "10.0.0.1"},
			Service: &catalog.Service{ID: id, Name: name, Kind: kind, Native: native},
		}}))
	}
	counts := func() *UsageCounts {
		a, err := m.View().Answer(&Usage{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := max(index, 1); a.Index != want {
			t.Errorf("index %d, want %d", a.Index, want)
		}
		return a.Value.(*UsageCounts)
	}
	mesh := func(change map[string]int) map[string]int {
		out := map[string]int{"api-gateway": 0, "connect-native": 0, "connect-proxy": 0, "ingress-gateway": 0, "mesh-gateway": 0, "terminating-gateway": 0}
		for k, n := range change {
			out[k] = n
		}
		return out
	}
	if got, want := counts(), (&UsageCounts{ConnectServiceInstances: mesh(nil)}); !reflect.DeepEqual(got, want) {
		t.Errorf("of nothing: %+v, want %+v", got, want)
	}
	put("s1", "consul", "consul", "", false)
	put("s1", "redis1", "redis", "", false)
	put("s1", "redis2", "Redis", "", false)
	put("s1", "proxy", "redis-proxy", "connect-proxy", false)
	put("n2", "web", "web", "", true)
	want := &UsageCounts{Nodes: 2, Services: 4, ServiceInstances: 5, BillableServiceInstances: 3,
		ConnectServiceInstances: mesh(map[string]int{"connect-proxy": 1, "connect-native": 1})}
	if got := counts(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
