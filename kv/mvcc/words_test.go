package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/muster-sd/muster/kv/mvcc"
)

func TestCodeOf(t *testing.T) {
	noLeader := &mvcc.Error{Code: mvcc.NoLeader, Text: "No cluster leader"}
	for _, c := range []struct {
		err  error
		want mvcc.Code
	}{
		{nil, 0},
		{errors.New("disk on fire"), mvcc.Internal},
		{noLeader, mvcc.NoLeader},
		{fmt.Errorf("cannot write: %w", noLeader), mvcc.NoLeader},
		{errors.Join(errors.New("first"), noLeader), mvcc.NoLeader},
	} {
		if got := mvcc.CodeOf(c.err); got != c.want {
			t.Errorf("the code of %v is %d, want %d", c.err, got, c.want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	err := fmt.Errorf("cannot write: %w", &mvcc.Error{Code: mvcc.TooLarge, Text: "600000 bytes"})
	for _, c := range []struct {
		target error
		want   bool
	}{
		{&mvcc.Error{Code: mvcc.TooLarge}, true},
		{&mvcc.Error{Code: mvcc.TooLarge, Text: "600000 bytes"}, true},
		{&mvcc.Error{Code: mvcc.TooLarge, Text: "7 bytes"}, false},
		{&mvcc.Error{Code: mvcc.Invalid}, false},
		{context.Canceled, false},
	} {
		if got := errors.Is(err, c.target); got != c.want {
			t.Errorf("%v is %#v: %v", err, c.target, got)
		}
	}
}

// TestCodes pins the numbers, which stand in logs and cross the wire.
func TestCodes(t *testing.T) {
	for code, number := range map[mvcc.Code]uint8{
		mvcc.Internal: 1, mvcc.NoLeader: 2, mvcc.NoPath: 3, mvcc.NotReady: 4, mvcc.Compacted: 5, mvcc.DiskFull: 6,
		mvcc.Invalid: 7, mvcc.TooLarge: 8, mvcc.Timeout: 9, mvcc.Unknown: 10, mvcc.ShuttingDown: 11,
	} {
		if uint8(code) != number {
			t.Errorf("code %d was once number %d", code, number)
		}
	}
}

func TestModeText(t *testing.T) {
	for mode, want := range map[mvcc.Mode]string{mvcc.Default: "leader", mvcc.Stale: "stale", mvcc.Consistent: "consistent"} {
		if mode.String() != want {
			t.Errorf("mode %d is called %q, want %q", mode, mode, want)
		}
	}
}

func TestOrigin(t *testing.T) {
	if o := mvcc.OriginOf(context.Background()); o != (mvcc.Origin{}) {
		t.Errorf("an empty context carries %+v", o)
	}
	want := mvcc.Origin{Node: "n1", Address: "127.0.0.1:4711", Endpoint: "PUT /v1/kv/"}
	if o := mvcc.OriginOf(mvcc.WithOrigin(context.Background(), want)); o != want {
		t.Errorf("the context carries %+v, want %+v", o, want)
	}
}

func TestSum(t *testing.T) {
	const top = math.MaxUint64
	for _, c := range []struct{ a, b, sum mvcc.Sum }{
		{mvcc.Sum{}, mvcc.Sum{}, mvcc.Sum{}},
		{mvcc.Sum{Lo: 1}, mvcc.Sum{Lo: 2}, mvcc.Sum{Lo: 3}},
		{mvcc.Sum{Lo: top}, mvcc.Sum{Lo: 1}, mvcc.Sum{Hi: 1}},
		{mvcc.Sum{Hi: top, Lo: top}, mvcc.Sum{Lo: 1}, mvcc.Sum{}},
		{mvcc.Sum{Hi: top, Lo: 5}, mvcc.Sum{Hi: 1, Lo: top}, mvcc.Sum{Hi: 1, Lo: 4}},
	} {
		if got := c.a.Add(c.b); got != c.sum {
			t.Errorf("%v + %v is %v, want %v", c.a, c.b, got, c.sum)
		}
		if got := c.sum.Sub(c.b); got != c.a {
			t.Errorf("%v - %v is %v, want %v", c.sum, c.b, got, c.a)
		}
	}
}

// TestHashRow pins the state hash to SHA-256 of the empty text (FIPS 180-4).
func TestHashRow(t *testing.T) {
	if got, want := mvcc.HashRow(nil).String(), "e3b0c44298fc1c149afbf4c8996fb924"; got != want {
		t.Errorf("the hash of nothing is %s, want %s", got, want)
	}
	if got, want := (mvcc.Sum{Hi: 1, Lo: 2}).String(), "00000000000000010000000000000002"; got != want {
		t.Errorf("a sum reads %s, want %s", got, want)
	}
}
