package leader

import (
	"context"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// hashVersion is the version of the log that state hashes came in with.
const hashVersion = 2

// writeHashes puts the state hash into the log now and then, so that a server
// that is not what the others are finds out.
func (d *Deps) writeHashes(ctx context.Context) {
	if d.MayPropose == nil {
		return
	}
	tick := time.NewTicker(HashInterval)
	defer tick.Stop()
	var last mvcc.Sum
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		check := d.Check()
		if check == nil || check.Hash == last || !d.MayPropose(hashVersion) {
			continue
		}
		if err := d.Apply(ctx, check); err != nil {
			if ctx.Err() == nil {
				d.Logger.Warn("cannot write the state hash", "error", err)
			}
			continue
		}
		last = check.Hash
	}
}
