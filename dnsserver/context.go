package dnsserver

import (
	"context"
	"sync"
	"time"
)

// queryContext is a context with a deadline that costs nothing until somebody
// waits for it, since most lookups are answered from memory.
type queryContext struct {
	context.Context
	deadline time.Time

	mu     sync.Mutex
	inner  context.Context
	cancel context.CancelFunc
	ended  bool
}

func newQueryContext(parent context.Context, timeout time.Duration) *queryContext {
	return &queryContext{Context: parent, deadline: time.Now().Add(timeout)}
}

// Deadline is when the query has to be answered.
func (c *queryContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done is closed when the deadline passes, the parent ends or the query was
// answered.
func (c *queryContext) Done() <-chan struct{} { return c.started().Done() }

// Err says why Done is closed.
func (c *queryContext) Err() error { return c.started().Err() }

func (c *queryContext) started() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.Context, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.inner
}

// end tells those who still wait that the query was answered.
func (c *queryContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
