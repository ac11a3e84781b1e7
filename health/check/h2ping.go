package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"golang.org/x/net/http2"

	"github.com/muster-sd/muster/health"
)

// h2PingChecker pings a peer that speaks HTTP/2, over TLS or plainly with prior
// knowledge.
type h2PingChecker struct {
	address string
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	limit   int
}

func newH2PingChecker(d *Definition, base *tls.Config, limit int) *h2PingChecker {
	c := &h2PingChecker{address: d.H2PING, dial: (&net.Dialer{}).DialContext, limit: limit}
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
	if secure, ok := conn.(*tls.Conn); ok {
		if got := secure.ConnectionState().NegotiatedProtocol; got != http2.NextProtoTLS {
			err = fmt.Errorf("the peer speaks %q over TLS, not %q", got, http2.NextProtoTLS)
		}
	}
	if err == nil {
		err = ping(conn)
	}
	if err != nil {
		return failed(fmt.Errorf("HTTP2 ping failed: %w", err), c.limit)
	}
	return result{status: health.Passing, output: "HTTP2 ping was successful"}
}

// pingData is what the peer has to send back. It tells the answer to our ping
// from anything else.
var pingData = [8]byte{'m', 'u', 's', 't', 'e', 'r', '?', '!'}

// ping opens a connection of HTTP/2 (RFC 9113, section 3.4) and waits for the
// answer to one ping.
func ping(conn io.ReadWriter) error {
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	framer.SetMaxReadFrameSize(MaxFrame)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	if err := framer.WritePing(false, pingData); err != nil {
		return err
	}
	for first := true; ; first = false {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if frame.IsAck() {
				continue
			}
			if err := framer.WriteSettingsAck(); err != nil {
				return err
			}
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data == pingData && !first { // settings come first
				return framer.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the peer went away: %v", frame.ErrCode)
		}
		if _, ok := frame.(*http2.SettingsFrame); first && !ok {
			return fmt.Errorf("the peer began with a frame of %v, not with its settings", frame.Header().Type)
		}
	}
}
