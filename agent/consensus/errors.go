package consensus

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Errors of a Node, to be told apart with errors.Is.
var (
	// ErrNotLeader says that this server does not lead, or is handing its
	// leadership over. Nothing was done.
	ErrNotLeader = errors.New("this server is not the leader")
	// ErrNotReady says that this server leads, but has not yet applied all
	// that earlier leaders committed.
	ErrNotReady = errors.New("the leader has not caught up with its log yet")
	// ErrNoLeader says that no leader was found in time.
	ErrNoLeader = errors.New("no leader was found")
	// ErrBusy says that too much is in flight. Nothing was done.
	ErrBusy = errors.New("too many writes wait for Raft")
	// ErrTooLarge says that a command exceeds MaxCommandBytes. Nothing was
	// done.
	ErrTooLarge = errors.New("the command is too large")
	// ErrFull says that the log's file system has too little space. Nothing
	// was done.
	ErrFull = errors.New("too little disk space")
	// ErrStopped says that the node was stopped. Nothing was done, unless the
	// error is ErrUncertain too.
	ErrStopped = errors.New("the Raft node was stopped")

	// ErrUncertain is what every error of a command is too, if the command
	// may still take effect.
	ErrUncertain = errors.New("it may still take effect, so look before you repeat it")
	// ErrTimeout says that the answer did not come in time. It is ErrUncertain.
	ErrTimeout error = uncertain("not confirmed in time")
	// ErrLeadershipLost says that this server stopped leading before the
	// command was committed. It is ErrUncertain.
	ErrLeadershipLost error = uncertain("leadership was lost before it was committed")
	// ErrStore says that the log could not be written. It is ErrUncertain.
	ErrStore error = uncertain("the Raft log could not be written")

	// ErrDamaged says that what is stored cannot be read, or does not fit
	// together.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrLocked says that another process uses the stored data.
	ErrLocked = errors.New("stored data is in use")
)

// uncertain is the text of an error that is also ErrUncertain.
type uncertain string

func (u uncertain) Error() string { return string(u) + ": " + ErrUncertain.Error() }

func (u uncertain) Is(target error) bool { return target == ErrUncertain }

// outcome turns Raft's error for a change of the log into ours. An error that
// Raft does not name stays as it is, and known is false.
func outcome(err error) (ours error, known bool) {
	switch {
	case err == nil:
		return nil, true
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader, true
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err), true
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: Raft did not take it within %v", ErrBusy, QueueTimeout), true
	case errors.Is(err, raft.ErrLeadershipLost):
		return ErrLeadershipLost, true
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("%w: %w", ErrStopped, ErrUncertain), true
	case errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w", err, ErrUncertain), true
	}
	return err, false
}
