package consensus

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRestoreWithAFault restores a snapshot on a disk that fails after the state was
// replaced: that it may have been is said.
func TestRestoreWithAFault(t *testing.T) {
	var broken atomic.Bool
	machine := new(counter)
	cfg := alone("", machine)
	cfg.Faults = Faults{Log: func() error {
		if broken.Load() {
			return errors.New("the disk is gone")
		}
		return nil
	}}
	n := open(t, cfg)
	bootstrap(t, n)
	apply(t, n, 3)
	broken.Store(true)
	data := string(append(number(100), number(42)...))
	err := n.RestoreSnapshot(t.Context(), 1000, 1, strings.NewReader(data), int64(len(data)))
	if sum, _ := machine.state(); sum != 100 {
		t.Fatalf("the state was not replaced: %d, %v", sum, err)
	}
	if !errors.Is(err, ErrUncertain) {
		t.Errorf("the state was replaced, and the error is %v", err)
	}
}
