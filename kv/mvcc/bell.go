package mvcc

import "sync/atomic"

// bell rings once, for all who listen. Its channel is made for the first who
// listens, because nearly all bells never have anybody.
type bell struct {
	channel atomic.Pointer[chan struct{}]
}

// rung is the channel of all bells that rang before anybody listened.
var rung = func() *chan struct{} {
	c := make(chan struct{})
	close(c)
	return &c
}()

// listen returns a channel that is closed when the bell rings, or closed already
// if it has.
func (b *bell) listen() <-chan struct{} {
	if c := b.channel.Load(); c != nil {
		return *c
	}
	fresh := make(chan struct{})
	if b.channel.CompareAndSwap(nil, &fresh) {
		return fresh
	}
	return *b.channel.Load()
}

// ring wakes all who listen, now and later.
func (b *bell) ring() {
	if c := b.channel.Swap(rung); c != nil && c != rung {
		close(*c)
	}
}
