package agenttest

import (
	"strings"
	"testing"
	"time"
)

// What must not happen is found, and what may is not.
func TestHistoryCheck(t *testing.T) {
	type ops []Op
	at := func(call, back int, o Op) Op {
		o.Key, o.Call, o.Return = "k", time.Duration(call), time.Duration(back)
		return o
	}
	put := func(call, back int, value string) Op { return at(call, back, Op{Kind: Put, Value: value}) }
	get := func(call, back int, mode, got string) Op { return at(call, back, Op{Mode: mode, Got: got}) }
	cas := func(call, back int, was, value string, ok bool) Op {
		return at(call, back, Op{Kind: CAS, Was: was, Value: value, OK: ok})
	}
	maybe := func(o Op) Op { o.Outcome = Unknown; return o }
	read := func(call int, server, got string, modified uint64) Op {
		return at(call, call+1, Op{Mode: Stale, Agent: server, Server: true, Got: got, Modified: modified, Index: modified})
	}
	for _, c := range []struct {
		name string
		ops  ops
		want string // of the error; empty is none
	}{
		{"in order", ops{put(0, 1, "a"), get(2, 3, Consistent, "a"), get(2, 3, Default, "a")}, ""},
		{"during a write", ops{put(0, 1, "a"), put(2, 9, "b"), get(3, 4, Default, "a"), get(5, 6, Default, "b")}, ""},
		{"back and forth", ops{put(0, 1, "a"), put(2, 9, "b"), get(3, 4, Default, "b"), get(5, 6, Default, "a")}, "default reads are not linearizable, and all else is"},
		{"a default read from the past", ops{put(0, 1, "a"), put(2, 3, "b"), get(4, 5, Default, "a")}, "default reads are not linearizable, and all else is"},
		{"a consistent read from the past", ops{put(0, 1, "a"), put(2, 3, "b"), get(4, 5, Consistent, "a")}, "not linearizable: k"},
		{"a stale read from the past", ops{put(0, 1, "a"), put(2, 3, "b"), get(4, 5, Stale, "a")}, ""},
		{"a lost write", ops{put(0, 1, "a"), get(2, 3, Consistent, "")}, "not linearizable: k"},
		{"never written", ops{put(0, 1, "a"), get(2, 3, Stale, "b")}, "read but never written"},
		{"two who set", ops{put(0, 1, "a"), cas(2, 9, "a", "b", true), cas(3, 8, "a", "c", true)}, "not linearizable: k"},
		{"one who set", ops{put(0, 1, "a"), cas(2, 9, "a", "b", true), cas(3, 8, "a", "c", false), get(10, 11, Consistent, "b")}, ""},
		{"refused for nothing", ops{put(0, 1, "a"), cas(2, 3, "a", "b", false)}, "not linearizable: k"},
		{"refused and read", ops{put(0, 1, "a"), cas(2, 9, "b", "c", false), get(3, 4, Stale, "c")}, "read although it was refused"},
		{"unknown, and done later", ops{put(0, 1, "a"), maybe(put(2, 3, "b")), get(4, 5, Default, "a"), get(6, 7, Default, "b")}, ""},
		{"unknown, and never done", ops{put(0, 1, "a"), maybe(put(2, 3, "b")), get(4, 5, Default, "a")}, ""},
		{"unknown, and done only to explain", ops{put(0, 1, "a"), maybe(put(2, 3, "b")), cas(4, 5, "a", "c", false)}, ""},
		{"unknown, and undone", ops{put(0, 1, "a"), maybe(put(2, 3, "b")), get(4, 5, Default, "b"), get(6, 7, Default, "a")}, "default reads are not linearizable"},
		{"an unknown exchange", ops{put(0, 1, "a"), maybe(cas(2, 3, "a", "b", false)), get(4, 5, Default, "a"), get(6, 7, Default, "b")}, ""},
		{"an unknown exchange of nothing", ops{put(0, 1, "a"), maybe(cas(2, 3, "z", "b", false)), get(6, 7, Consistent, "b")}, "not linearizable: k"},
		{"removed", ops{put(0, 1, "a"), at(2, 3, Op{Kind: DeleteCAS, Was: "a", OK: true}), get(4, 5, Default, "")}, ""},
		{"not removed", ops{put(0, 1, "a"), at(2, 3, Op{Kind: DeleteCAS, Was: "b", OK: false}), at(4, 5, Op{Kind: Delete}), get(6, 7, Default, "a")}, "default reads are not linearizable"},
		{"forwards", ops{put(0, 9, "a"), put(0, 9, "b"), read(1, "s1", "a", 5), read(3, "s2", "b", 6), read(5, "s1", "a", 5)}, ""},
		{"backwards", ops{put(0, 9, "a"), put(0, 9, "b"), read(1, "s1", "b", 6), read(3, "s1", "a", 5)}, "a read went backwards"},
		{"gone again", ops{put(0, 9, "a"), read(1, "s1", "a", 6), read(3, "s1", "", 0)}, "a read went backwards"},
		{"applied twice", ops{put(0, 9, "a"), read(1, "s1", "a", 6), read(3, "s2", "a", 7)}, "written at two indexes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHistory()
			for _, o := range c.ops {
				h.Add(o)
			}
			err := h.Check()
			switch {
			case c.want == "" && err != nil:
				t.Errorf("found: %v", err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
				t.Errorf("found: %v\nwant: %s", err, c.want)
			}
		})
	}
}
