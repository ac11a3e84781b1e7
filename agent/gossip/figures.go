package gossip

// Figures are what a pool counts about itself, beside its members.
type Figures struct {
	// Health is how badly this agent hears others: 0 is well, and each step makes
	// it slower to suspect anybody.
	Health int
	// Clock is the time of the pool's clock, and Newest that of the newest event.
	Clock, Newest uint64
	// News are the messages that still go round, and Events the events that wait
	// to be told here.
	News, Events int
}

// Figures returns the figures of this moment.
func (p *Pool) Figures() Figures {
	p.mu.Lock()
	f := Figures{Clock: p.clock, Newest: p.seen.newest, Events: len(p.events)}
	p.mu.Unlock()
	f.Health, f.News = p.list.Load().GetHealthScore(), p.queue.NumQueued()
	return f
}
