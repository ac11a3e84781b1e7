package consensus

import (
	"runtime/debug"
	"time"
)

// tidyAfterReplay gives the memory back to the kernel that the reading of a long
// log has left as garbage, and the pages of the log, once, when the state machine
// has come to the entry that was the last one at the start. The collector would
// keep it for as much garbage again, which a server that has started does not
// make.
func (n *Node) tidyAfterReplay(last uint64, free func()) {
	if free == nil {
		free = debug.FreeOSMemory
	}
	look := time.NewTicker(replayLook)
	defer look.Stop()
	// Once more than it takes: who waited for the start comes first.
	for done := false; ; {
		select {
		case <-look.C:
		case <-n.stopping:
			return
		}
		if done {
			free()
			n.stores.release()
			return
		}
		done = n.hasApplied(last)
	}
}
