package rpc

import (
	"fmt"

	"google.golang.org/grpc/connectivity"
)

// Asked is a short query under way. Whoever has it calls Reply once, after Done, or
// GiveUp.
type Asked struct {
	client *Client
	conn   *clientConn
	x      *exchange
	id     uint64
	call   shortCall
}

// Ask begins a short query, if a connection for it is there, and else returns nil: it
// has to be asked by Query then. It waits for nothing, and keeps no time. Nobody may
// change the bytes of the query before its end.
func (c *Client) Ask(to string, r *QueryRequest) *Asked {
	head := request{from: r.From, token: r.Token, datacenter: r.Options.Datacenter, forwarded: r.Forwarded, options: r.Options, have: r.Have}
	if head.from == "" {
		head.from = c.cfg.ID
	}
	if !r.Short || len(r.Query) > MaxShortBytes || head.fits(len(r.Query)) != nil {
		return nil
	}
	conn := c.ready(to)
	if conn == nil {
		return nil
	}
	a := &Asked{client: c, conn: conn, x: c.exchange(conn, to)}
	if a.x != nil {
		a.call = shortCall{done: make(chan struct{}), wants: replyAnswer}
		if id, ok := a.x.begin(&a.call, itemQuery, &head, r.Query); ok {
			a.id = id
			return a
		}
	}
	c.release(conn)
	return nil
}

// ready is take if that waits for nothing and fails by nothing, and else returns nil.
func (c *Client) ready(to string) *clientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[to]
	if c.closed || l == nil || l.conn == nil || l.conn.calls >= MaxStreams || l.conn.signs.silent.Load() != nil {
		return nil
	}
	l.conn.calls++
	return l.conn
}

// Done is closed when the query has ended.
func (a *Asked) Done() <-chan struct{} { return a.call.done }

// Reply returns the reply, or the error that the query ended with. They are those of
// [Client.Query].
func (a *Asked) Reply() (Reply, error) {
	if a.call.err != nil && a.conn.grpc.GetState() != connectivity.Ready {
		a.client.retire(a.conn) // the next call need not wait for the watch to see it
	}
	a.client.release(a.conn)
	return a.call.reply, a.call.err
}

// GiveUp ends a query for whose reply nobody waits any more, and returns the error
// that it comes to: why says what ended it.
func (a *Asked) GiveUp(why error) error {
	a.x.giveUp(a.id)
	a.client.release(a.conn)
	return fmt.Errorf("the call to server %q ended: %w", a.x.to, why)
}
