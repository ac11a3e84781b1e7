package leader

import (
	"context"
	"time"

	"github.com/muster-sd/muster/kv"
)

// reapTombstones forgets the deletions of keys that are old enough.
func (d *Deps) reapTombstones(ctx context.Context) {
	tick := time.NewTicker(ReapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		index := d.View().KV.Reapable(d.Now().UnixMilli() - kv.TombstoneTTL)
		if index == 0 {
			continue
		}
		if err := d.Apply(ctx, &kv.Reap{Index: index}); err != nil && ctx.Err() == nil {
			d.Logger.Warn("cannot forget old deletions", "error", err)
		}
	}
}
