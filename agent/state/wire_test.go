package state

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

var update = flag.Bool("update", false, "write the golden files anew; right only while no release has written the format")

// kinds are all kinds of commands there are.
func kinds() []byte {
	var out []byte
	for k := range 256 {
		if newCommand(byte(k)) != nil {
			out = append(out, byte(k))
		}
	}
	return out
}

// filled returns a command of a kind with every field set.
func filled(tb testing.TB, kind byte) any {
	cmd := newCommand(kind)
	fill(tb, cmd)
	return cmd
}

var testOrigin = mvcc.Origin{Node: "n1", Address: "127.0.0.1:4711", Endpoint: "PUT /v1/kv/"}

func TestEveryKindHasACaseInBothDirections(t *testing.T) {
	for _, kind := range kinds() {
		cmd := filled(t, kind)
		if got, ok := kindOf(cmd); !ok || got != kind {
			t.Errorf("kind %d makes a %T, whose kind is %d", kind, cmd, got)
		}
		m := NewMachine()
		res := m.Apply(&raft.Log{Index: 5, Data: mustEncode(t, cmd)}).(Result)
		if res.Err != nil && res.Err.Code == mvcc.Internal {
			t.Errorf("%T has no case in apply: %v", cmd, res.Err)
		}
	}
	for table := range 256 {
		row := newRow(byte(table))
		if row == nil {
			continue
		}
		if got := tableOf(row); got != byte(table) {
			t.Errorf("table %d makes a %T, whose table is %d", table, row, got)
		}
		if !bytes.Contains(tableOrder[:], []byte{byte(table)}) {
			t.Errorf("table %d is not in the order of a snapshot", table)
		}
	}
}

func mustEncode(tb testing.TB, cmd any) []byte {
	tb.Helper()
	b, err := Encode(cmd, 1_700_000_000_123, testOrigin)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestEntryRoundTrip(t *testing.T) {
	for _, kind := range kinds() {
		cmd := filled(t, kind)
		e, got, err := Decode(mustEncode(t, cmd))
		if err != nil {
			t.Fatalf("kind %d: %v", kind, err)
		}
		if want := (Envelope{Kind: kind, At: 1_700_000_000_123, Origin: testOrigin}); e != want {
			t.Errorf("kind %d: envelope %+v, want %+v", kind, e, want)
		}
		if !reflect.DeepEqual(got, cmd) {
			t.Errorf("kind %d: got %+v, want %+v", kind, got, cmd)
		}
	}
}

func TestOriginIsCutAndExtensible(t *testing.T) {
	long := mvcc.Origin{Node: strings.Repeat("n", 300), Address: "", Endpoint: "e"}
	b, err := Encode(&kv.Delete{Key: "k"}, 1, long)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := Decode(b)
	if err != nil || len(e.Origin.Node) != maxOriginField || e.Origin.Endpoint != "e" {
		t.Errorf("origin %+v, %v", e.Origin, err)
	}
	// A later program adds a fourth text: this one reads past it.
	later := append([]byte{}, b[:10]...)
	later = append(later, 0, 8, 1, 'n', 0, 1, 'e', 2, 'i', 'd')
	later = append(later, b[len(b)-len(bodyOf(t, b)):]...)
	e, cmd, err := Decode(later)
	if err != nil || e.Origin != (mvcc.Origin{Node: "n", Endpoint: "e"}) || cmd.(*kv.Delete).Key != "k" {
		t.Errorf("with a later text: %+v %+v %v", e, cmd, err)
	}
}

func bodyOf(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var o mvcc.Origin
	body, err := readOrigin(b[headerLength-2:], &o)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func TestEntriesThatCannotBeApplied(t *testing.T) {
	good := mustEncode(t, &kv.Set{Key: "a", Value: []byte("b")})
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	cases := []struct {
		name  string
		entry []byte
		want  string
	}{
		{"empty", nil, "shorter than its header"},
		{"short", good[:11], "shorter than its header"},
		{"unknown kind", change(func(b []byte) []byte { b[0] = 99; return b }), "kind 99 needs a newer Muster: this one knows protocol version 2"},
		{"unknown form", change(func(b []byte) []byte { b[1] = 2; return b }), "form 2 needs a newer Muster"},
		{"origin cut off", good[:13], "origin of 30 bytes is cut off"},
		{"text cut off", change(func(b []byte) []byte { b[12] = 200; return b }), "is cut off"},
		{"time out of range", change(func(b []byte) []byte { b[2] = 0xff; return b }), "out of range"},
		{"body cut off", good[:len(good)-3], "cannot decode the body"},
	}
	for _, c := range cases {
		_, _, err := Decode(c.entry)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
	if _, err := Encode(struct{}{}, 0, mvcc.Origin{}); err == nil {
		t.Error("a command of no kind was encoded")
	}
}

func TestUnknownKindThatMaySkip(t *testing.T) {
	b := mustEncode(t, &kv.Set{Key: "a"})
	b[0] = 99 | kindMaySkip
	if err := CheckEntry(b); err != nil {
		t.Errorf("CheckEntry: %v", err)
	}
	m := NewMachine()
	if res := m.Apply(&raft.Log{Index: 1, Data: b}).(Result); res.OK || res.Err != nil || m.View().Index != 0 {
		t.Errorf("applied to %+v at index %d", res, m.View().Index)
	}
}

func TestApplyPanicsAtWhatItCannotDecode(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "log entry 77") || !strings.Contains(p, "newer Muster") {
			t.Errorf("panic says %q", p)
		}
	}()
	b := mustEncode(t, &kv.Set{Key: "a"})
	b[0] = 99
	if err := CheckEntry(b); err == nil {
		t.Error("CheckEntry let it pass")
	}
	NewMachine().Apply(&raft.Log{Index: 77, Data: b})
}

// versionOf is the protocol version that a kind of command came in.
func versionOf(kind byte) int {
	switch kind {
	case kindAutopilot, kindCheckHash:
		return 2
	}
	return 1
}

// TestGoldenEntries holds the log's format: what was once written is read for
// ever, and gives the same state.
func TestGoldenEntries(t *testing.T) {
	seen := 0
	for version := 1; version <= ProtocolVersion; version++ {
		path := filepath.Join("testdata", fmt.Sprintf("entries-%d.golden", version))
		if *update {
			var out bytes.Buffer
			for _, kind := range kinds() {
				if versionOf(kind) == version {
					fmt.Fprintf(&out, "%d %x\n", kind, mustEncode(t, filled(t, kind)))
				}
			}
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		seen += readGolden(t, path, version)
	}
	if seen != len(kinds()) {
		t.Errorf("%d golden entries for %d kinds", seen, len(kinds()))
	}
}

// readGolden holds the entries of one version to what this program writes and
// reads, and returns how many there are.
func readGolden(t *testing.T, path string, version int) int {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for lines := bufio.NewScanner(f); lines.Scan(); seen++ {
		var kind byte
		var text string
		if _, err := fmt.Sscanf(lines.Text(), "%d %s", &kind, &text); err != nil {
			t.Fatal(err)
		}
		if versionOf(kind) != version {
			t.Errorf("kind %d stands among the entries of version %d", kind, version)
		}
		want, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := mustEncode(t, filled(t, kind)); !bytes.Equal(got, want) {
			t.Errorf("kind %d is written as\n%x, was\n%x", kind, got, want)
		}
		if _, cmd, err := Decode(want); err != nil || !reflect.DeepEqual(cmd, filled(t, kind)) {
			t.Errorf("kind %d is read as %+v, %v", kind, cmd, err)
		}
	}
	return seen
}

func FuzzDecode(f *testing.F) {
	for _, kind := range kinds() {
		f.Add(mustEncode(f, filled(f, kind)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, cmd, err := Decode(b)
		if err != nil {
			if !errors.Is(err, errSkip) && CheckEntry(b) == nil {
				t.Error("CheckEntry passed an entry that cannot be decoded")
			}
			return
		}
		// What was read must be applied without a panic, and written again.
		NewMachine().Apply(&raft.Log{Index: 1, Data: b})
		if _, err := Encode(cmd, e.At, e.Origin); err != nil {
			t.Error(err)
		}
	})
}
