package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/muster-sd/muster/health"
)

// udpChecker sends an empty datagram. Silence is no proof of failure in UDP, so
// it passes; only a refusal by the peer's system, or no way to send, fails.
type udpChecker struct {
	address string
	limit   int
}

func (c *udpChecker) check(ctx context.Context) result {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", c.address)
	if err != nil {
		return failed(err, c.limit)
	}
	defer conn.Close()
	defer bind(ctx, conn)()
	if _, err := conn.Write(nil); err != nil {
		return failed(err, c.limit)
	}
	if _, err := conn.Read(make([]byte, MaxUDPRead)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return failed(err, c.limit)
	}
	return result{status: health.Passing, output: fmt.Sprintf("UDP connect %s: Success", c.address)}
}

// bind ends what waits for conn when ctx ends, until the returned function is
// called.
func bind(ctx context.Context, conn net.Conn) (release func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}
