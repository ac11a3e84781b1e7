package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
)

// A long log is looked through in parts; what is reported is the first entry
// that cannot be used, and none is left out.
func TestLongLogIsCheckedWhole(t *testing.T) {
	const entries = 5*checkShare + 7
	var all []*raft.Log
	for i := uint64(1); i <= entries; i++ {
		all = append(all, &raft.Log{Index: i, Term: 1, Data: binary.BigEndian.AppendUint64(nil, i)})
	}
	log := newBolt(t)
	if err := log.StoreLogs(all); err != nil {
		t.Fatal(err)
	}
	s := &stores{dir: t.TempDir(), bolt: log}
	for _, from := range []uint64{1, 2, entries - 1, entries, entries + 1} {
		var seen atomic.Uint64
		if err := s.checkEntries(from, entries, func([]byte) error { seen.Add(1); return nil }); err != nil || seen.Load() != entries+1-from {
			t.Errorf("from %d, %d entries were looked at, %v", from, seen.Load(), err)
		}
	}
	for _, bad := range []uint64{1, checkShare, 3 * checkShare, entries} {
		err := s.checkEntries(1, entries, func(data []byte) error {
			if binary.BigEndian.Uint64(data) >= bad {
				return errors.New("unknown")
			}
			return nil
		})
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("entry %d cannot be applied", bad)) {
			t.Errorf("bad from %d on: %v", bad, err)
		}
	}
}
