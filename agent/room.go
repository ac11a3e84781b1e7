package agent

import (
	"context"
	"log/slog"
	"time"
)

// yielder hands leadership over when this server leads and its disk is full: it takes
// no writes then, and another server may have room for them. Of a disk that is full,
// and of one that has room again, it says so once, whether this server leads or not.
type yielder struct {
	full    func() error // why no more can be written, or nil
	leading func() bool
	voters  func() []string // the IDs of the others
	stats   func(ctx context.Context, id string) (peerStats, error)
	give    func(ctx context.Context, id string) error
	log     *slog.Logger

	before bool   // it was full at the last look
	said   string // what the log was told last
}

// yield runs a yielder.
func (a *Agent) yield(ctx context.Context) error {
	y := &yielder{
		full: a.node.Full, leading: a.node.Leading, stats: a.statsOf, give: a.node.TransferLeadership, log: a.part("server"),
		voters: func() (ids []string) {
			for _, p := range a.node.Peers() {
				if p.Voter && p.ID != a.id {
					ids = append(ids, p.ID)
				}
			}
			return ids
		},
	}
	look := time.NewTicker(roomInterval)
	defer look.Stop()
	for {
		y.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// look does what is to be done now. A disk has to be full twice in a row: what many
// clients write at once may fill it for a moment only in the count.
func (y *yielder) look(ctx context.Context) {
	why := y.full()
	again := y.before
	y.before = why != nil
	switch {
	case why == nil && again:
		return // as above
	case why == nil:
		if y.said != "" {
			y.log.Warn("this server's disk has room again: it takes writes")
		}
		y.said = ""
		return
	case !again:
		return
	case !y.leading():
		if y.said == "" {
			y.tell("this server's disk is full: it cannot lead until there is room", "error", why)
		}
		return
	}
	to := y.other(ctx)
	if to == "" {
		y.tell("this server leads and its disk is full, and no other server has room: writes fail", "error", why)
		return
	}
	limited, cancel := context.WithTimeout(ctx, handoverLimit)
	defer cancel()
	if err := y.give(limited, to); err != nil {
		y.tell("this server leads and its disk is full, and leadership cannot be handed over", "to", to, "error", err)
		return
	}
	y.tell("this server's disk is full: it handed leadership over", "to", to, "error", why)
}

// other returns the server with room that is furthest, or nothing.
func (y *yielder) other(ctx context.Context) (id string) {
	var furthest uint64
	for _, voter := range y.voters() {
		limited, cancel := context.WithTimeout(ctx, statsLimit)
		s, err := y.stats(limited, voter)
		cancel()
		if err == nil && !s.Full && s.Fresh == "" && s.LastIndex >= furthest {
			id, furthest = voter, s.LastIndex
		}
	}
	return id
}

// tell tells the log what is new.
func (y *yielder) tell(what string, about ...any) {
	if y.said != what {
		y.said = what
		y.log.Warn(what, about...)
	}
}
