package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/muster-sd/muster/agent/consensus"
	"github.com/muster-sd/muster/kv/mvcc"
)

// What keeps a server from answering is told to clients.
func TestErrorsOfConsensusForClients(t *testing.T) {
	fault := &consensus.Fault{Call: "storing entry 7", Path: "/data/raft/raft.db", Err: errors.New("no space left on device")}
	because := func(err error) error { return fmt.Errorf("%w: %w", err, fault) }
	const noLeader = "No cluster leader: the disk fails: storing entry 7 in /data/raft/raft.db: no space left on device"
	for _, c := range []struct {
		name string
		err  error
		code mvcc.Code
		text string
		read string // the text for a read that was not confirmed, if it is another
	}{
		{"nobody leads", consensus.ErrNoLeader, mvcc.NoLeader, "No cluster leader", ""},
		{"nobody leads, for the disk", because(consensus.ErrNoLeader), mvcc.NoLeader, noLeader, ""},
		{"another leads, for the disk", because(consensus.ErrNotLeader), mvcc.NoLeader, noLeader, ""},
		{"no place, for the disk", because(consensus.ErrBusy), mvcc.NoLeader, noLeader, ""},
		{"no room", fmt.Errorf("%w: /data/raft has 1.0 MiB free", consensus.ErrFull), mvcc.DiskFull,
			"too little disk space: /data/raft has 1.0 MiB free", ""},
		{"no answer, for the disk", because(consensus.ErrTimeout), mvcc.Timeout, because(consensus.ErrTimeout).Error(), noLeader},
		{"no answer", consensus.ErrTimeout, mvcc.Timeout, consensus.ErrTimeout.Error(), "No cluster leader"},
		{"not stored", because(consensus.ErrStore), mvcc.Timeout, because(consensus.ErrStore).Error(), ""},
		{"gone", context.Canceled, mvcc.Internal, "context canceled", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := asError(c.err)
			if mvcc.CodeOf(err) != c.code || err.Error() != c.text {
				t.Errorf("a write: %d %q, want %d %q", mvcc.CodeOf(err), err, c.code, c.text)
			}
			want := c.text
			if c.read != "" {
				want = c.read
			}
			if err := asReadError(c.err); err.Error() != want {
				t.Errorf("a read: %q, want %q", err, want)
			}
		})
	}
}
