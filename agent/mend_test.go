package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/agent/state"
)

// What was taken over is saved, however often that takes, and the log is told of
// what keeps it from that once in a while.
func TestStateThatWasTakenOverIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		found := &state.Mismatch{Index: 7}
		adopted, saved, offers, saves := 0, 0, 3, 20
		m := &mender{
			mismatch: func() *state.Mismatch { return found },
			accept:   func(*state.Mismatch) bool { t.Error("it goes on with its own state"); return false },
			alone:    func() bool { return false },
			adopt: func(_ context.Context, held bool) error {
				if adopted++; adopted < offers {
					return state.ErrBehind
				}
				if !held {
					t.Error("the log did not wait for an offer after one that was behind")
				}
				found = nil
				return nil
			},
			save: func(context.Context) error {
				if saved++; saved < saves {
					return errors.New("the disk is full")
				}
				return nil
			},
			log: slog.New(slog.NewTextHandler(&log, nil)),
		}
		began := time.Now()
		for ; found != nil || m.unsaved; time.Sleep(mendInterval) {
			m.look(t.Context())
		}
		if adopted != offers || saved != saves {
			t.Errorf("%d offers were taken, and it was saved %d times", adopted, saved)
		}
		if took := time.Since(began); took < 10*time.Minute || took > 20*mendRepeat {
			t.Errorf("%d tries to save took %v", saves, took)
		}
		m.look(t.Context())
		if saved != saves {
			t.Error("it is saved again")
		}
		told := strings.Count(log.String(), "the disk is full")
		if told < 10 || told > saves || strings.Count(log.String(), PhraseDiffers) != 1 || strings.Count(log.String(), "behind") != 1 {
			t.Errorf("the log has\n%s", log.String())
		}
	})
}
