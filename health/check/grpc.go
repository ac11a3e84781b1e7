package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/muster-sd/muster/health"
)

// grpcChecker asks the standard health service of a gRPC server. Each run makes
// a connection of its own, as that of an HTTP check does.
type grpcChecker struct {
	target  string // as it was written
	address string
	service string // whose health is asked for; empty is the whole server
	options []grpc.DialOption
	limit   int
}

func newGRPCChecker(d *Definition, base *tls.Config, limit int) *grpcChecker {
	c := &grpcChecker{target: d.GRPC, limit: limit}
	c.address, c.service, _ = strings.Cut(d.GRPC, "/")
	security := insecure.NewCredentials()
	if d.GRPCUseTLS {
		security = credentials.NewTLS(tlsConfig(d, base))
	}
	c.options = []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", c.address)
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithMaxHeaderListSize(MaxHeaderList),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxGRPCMessage)),
		grpc.WithUserAgent(defaultUserAgent),
	}
	return c
}

func (c *grpcChecker) check(ctx context.Context) result {
	// The address is handed to the dialer as it is: no resolver of gRPC's own.
	conn, err := grpc.NewClient("passthrough:///"+c.address, c.options...)
	if err != nil {
		return failed(err, c.limit)
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: c.service})
	if err != nil {
		return failed(err, c.limit)
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return failed(fmt.Errorf("gRPC %s serving status: %s", c.target, answer.Status), c.limit)
	}
	return result{status: health.Passing, output: fmt.Sprintf("gRPC check %s: success", c.target)}
}
