package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/muster-sd/muster/kv/mvcc"
)

// cpu is the processor time of this process so far, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// measure runs do b.N times, one after the other and then many at once, and
// reports the processor time of both sides together.
func measure(b *testing.B, do func() error) {
	for _, c := range []struct {
		name string
		run  func(*testing.B)
	}{
		{"alone", func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
		}},
		{"many", func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := do(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			from := cpu()
			c.run(b)
			b.ReportMetric(float64(cpu()-from)/float64(b.N)/1000, "cpu-µs/op")
		})
	}
}

// bare is a gRPC server and client without options, whose method moves the same
// bytes by the same codec.
func bare(b *testing.B, answer []byte) *grpc.ClientConn {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(codec{}))
	receive := func(from interface{ RecvMsg(any) error }) error {
		var in message
		if err := from.RecvMsg(&in); err != nil {
			return err
		}
		in.free()
		return nil
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bare", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in message
			if err := dec(&in); err != nil {
				return nil, err
			}
			in.free()
			return mem.BufferSlice{mem.SliceBuffer(answer)}, nil
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			if err := receive(stream); err != nil {
				return err
			}
			return stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(answer)})
		}}},
	}, nil)
	go func() { _ = s.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(); s.Stop() })
	return conn
}

func BenchmarkApply(b *testing.B) {
	command := pattern(256)
	b.Run("muster", func(b *testing.B) {
		n := start(b, handler{apply: func(context.Context, *ApplyRequest) ([]byte, error) { return command[:16], nil }}, nil)
		c := client(b, n, nil)
		measure(b, func() error {
			_, err := c.Apply(context.Background(), "a", &ApplyRequest{Datacenter: "dc1", Command: command})
			return err
		})
	})
	b.Run("bare", func(b *testing.B) {
		conn := bare(b, command[:18])
		measure(b, func() error {
			var in message
			err := conn.Invoke(context.Background(), "/bare/Unary", mem.BufferSlice{mem.SliceBuffer(pattern256)}, &in)
			if err == nil {
				in.free()
			}
			return err
		})
	})
}

var pattern256 = pattern(264)

func BenchmarkQuery(b *testing.B) {
	for _, size := range []int{300, 20 << 10, 200 << 10} {
		body := pattern(size)
		b.Run("muster/"+strconv.Itoa(size), func(b *testing.B) {
			n := start(b, handler{query: func(_ context.Context, _ *QueryRequest, send func(Reply) error) error {
				return send(Reply{Meta: mvcc.Meta{Index: 1 << 20, KnownLeader: true}, Body: body})
			}}, nil)
			c := client(b, n, nil)
			each := func(r Reply) error {
				if len(r.Body) != size {
					return errors.New("another size")
				}
				return nil
			}
			measure(b, func() error {
				return c.Query(context.Background(), "a", &QueryRequest{Short: true, Query: command32}, each)
			})
		})
		b.Run("bare/"+strconv.Itoa(size), func(b *testing.B) {
			conn := bare(b, body)
			desc := &grpc.StreamDesc{ServerStreams: true}
			measure(b, func() error {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				stream, err := conn.NewStream(ctx, desc, "/bare/Stream")
				if err != nil {
					return err
				}
				if err := errors.Join(stream.SendMsg(mem.BufferSlice{mem.SliceBuffer(command32)}), stream.CloseSend()); err != nil {
					return err
				}
				for {
					var in message
					if err := stream.RecvMsg(&in); err != nil {
						if errors.Is(err, io.EOF) {
							return nil
						}
						return err
					}
					in.free()
				}
			})
		})
	}
}

var command32 = pattern(32)

// BenchmarkIdle reports what an idle connection costs a server. The clients
// say what opens HTTP/2 and keep no more than a socket.
func BenchmarkIdle(b *testing.B) {
	const conns = 1000
	n := start(b, echoing, func(m *MuxConfig, _ *ServerConfig) { m.ConnsPerClient = conns })
	open := make([]net.Conn, conns)
	before, resident := heap(), rss()
	for i := range open {
		r := dialRaw(b, n)
		// The answer of the settings comes when the connection is served.
		if err := r.until(func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() }); err != nil {
			b.Fatal(err)
		}
		open[i] = r.Conn
	}
	grown, grownResident := heap()-before, rss()-resident
	for b.Loop() {
		runtime.Gosched()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(grown)/conns, "heap-B/conn")
	b.ReportMetric(float64(grownResident)/conns, "rss-B/conn")
	runtime.KeepAlive(open)
}

// rss is the resident memory of this process, where the system tells.
func rss() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
