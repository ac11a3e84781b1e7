package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"golang.org/x/net/http2"

	"github.com/muster-sd/muster/health"
)

// h2PingChecker pings a peer that speaks HTTP/2, over TLS or plainly with prior
// knowledge.
type h2PingChecker struct {
	address   string
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	transport *http2.Transport
	limit     int
}

func newH2PingChecker(d *Definition, base *tls.Config, limit int) *h2PingChecker {
	c := &h2PingChecker{
		address: d.H2PING,
		dial:    (&net.Dialer{}).DialContext,
		limit:   limit,
		transport: &http2.Transport{
			AllowHTTP:          true,
			DisableCompression: true,
			MaxHeaderListSize:  MaxHeaderList,
		},
	}
	if d.H2PingUseTLS {
		config := tlsConfig(d, base)
		config.NextProtos = []string{http2.NextProtoTLS}
		c.dial = (&tls.Dialer{Config: config}).DialContext
	}
	return c
}

func (c *h2PingChecker) check(ctx context.Context) result {
	conn, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return failed(fmt.Errorf("Failed to dial to %s: %w", c.address, err), c.limit)
	}
	defer conn.Close()
	defer bind(ctx, conn)()
	if err := c.ping(ctx, conn); err != nil {
		return failed(fmt.Errorf("HTTP2 ping failed: %w", err), c.limit)
	}
	return result{status: health.Passing, output: "HTTP2 ping was successful"}
}

func (c *h2PingChecker) ping(ctx context.Context, conn net.Conn) error {
	if secure, ok := conn.(*tls.Conn); ok {
		if got := secure.ConnectionState().NegotiatedProtocol; got != http2.NextProtoTLS {
			return fmt.Errorf("the peer speaks %q over TLS, not %q", got, http2.NextProtoTLS)
		}
	}
	session, err := c.transport.NewClientConn(conn)
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Ping(ctx)
}
