package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/muster-sd/muster/health"
)

// tcpChecker connects to an address and hangs up.
type tcpChecker struct {
	address string
	what    string // names the probe in the output
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	limit   int
}

func newTCPChecker(d *Definition, base *tls.Config, limit int) *tcpChecker {
	c := &tcpChecker{address: d.TCP, what: "TCP", limit: limit}
	if d.TCPUseTLS {
		c.what = "TCP+TLS"
		c.dial = (&tls.Dialer{Config: tlsConfig(d, base)}).DialContext
	} else {
		c.dial = (&net.Dialer{}).DialContext
	}
	return c
}

func (c *tcpChecker) check(ctx context.Context) result {
	conn, err := c.dial(ctx, "tcp", c.address)
	if err != nil {
		return failed(err, c.limit)
	}
	conn.Close()
	return result{status: health.Passing, output: fmt.Sprintf("%s connect %s: Success", c.what, c.address)}
}
