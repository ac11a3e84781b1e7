package check

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/muster-sd/muster/health"
)

// TestManyChecks runs 2,000 checks every 10 s, of which one in a hundred hangs:
// the runs come evenly, nothing waits for what hangs, and between runs there is
// no goroutine.
func TestManyChecks(t *testing.T) {
	const checks, interval, span = 2000, 10 * time.Second, 100 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		perSecond := make([]int, int(span/time.Second)+1)
		runs := make([]int, checks)
		var all []*poller
		before := bubbleGoroutines()
		for i := range checks {
			p := &poller{interval: interval, timeout: time.Hour, notify: func(health.Status, string) {}}
			p.probe = probeFunc(func(ctx context.Context) (health.Status, string) {
				mu.Lock()
				perSecond[int(time.Since(began)/time.Second)]++
				runs[i]++
				mu.Unlock()
				if i%100 == 0 {
					<-ctx.Done()
				}
				return health.Passing, ""
			})
			p.start()
			all = append(all, p)
		}
		if extra := bubbleGoroutines() - before; extra > 0 {
			t.Errorf("%d goroutines wait for %d checks", extra, checks)
		}
		time.Sleep(span - time.Millisecond)
		synctest.Wait()
		if extra := bubbleGoroutines() - before; extra != checks/100 {
			t.Errorf("%d goroutines run, want one for each of the %d checks that hang", extra, checks/100)
		}
		for _, p := range all {
			p.stop()
		}
		for i, n := range runs {
			// The last run of one that began late may be due a moment after the end.
			if want := int(span / interval); i%100 == 0 && n != 1 || i%100 != 0 && (n < want-1 || n > want) {
				t.Errorf("check %d ran %d times", i, n)
			}
		}
		mean := checks / int(interval/time.Second)
		for second, n := range perSecond[:int(span/time.Second)] {
			if n < mean/2 || n > mean*3/2 {
				t.Errorf("second %d had %d runs, the mean is %d", second, n, mean)
			}
		}
	})
}

// bubbleGoroutines counts the goroutines of synctest bubbles, which are those of
// the calling test alone: the runtime's own and what an earlier test left come
// and go by themselves.
func bubbleGoroutines() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("synctest bubble "))
}

// peers are good peers of each kind.
func peers(t testing.TB) map[string]Definition {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	t.Cleanup(web.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, healthserver.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	echo, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			_, from, err := echo.ReadFrom(make([]byte, 10))
			if err != nil {
				return
			}
			echo.WriteTo([]byte("here"), from)
		}
	}()
	return map[string]Definition{
		HTTP:   {HTTP: web.URL},
		TCP:    {TCP: web.Listener.Addr().String()},
		UDP:    {UDP: echo.LocalAddr().String()},
		GRPC:   {GRPC: listener.Addr().String()},
		H2Ping: {H2PING: serveH2(t)},
		Script: {ScriptArgs: []string{"true"}},
	}
}

// TestNothingLeaks makes 10,000 runs and looks for what they left behind.
func TestNothingLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	shares := map[string]int{HTTP: 2500, TCP: 2500, UDP: 1500, GRPC: 1500, H2Ping: 1500, Script: 500}
	good := peers(t)
	good[HTTP+" that fails"] = Definition{HTTP: "http://127.0.0.1:1"}
	good[GRPC+" that fails"] = Definition{GRPC: "127.0.0.1:1"}
	warm := func(runs func(kind string) int) {
		for kind, d := range good {
			var workers sync.WaitGroup
			for range 4 {
				c, err := newChecker(&d, nil, 4096) // which runs once at a time
				if err != nil {
					t.Fatal(err)
				}
				workers.Go(func() {
					for range runs(kind) / 4 {
						run(t, c, plenty)
					}
				})
			}
			workers.Wait()
		}
	}
	warm(func(string) int { return 20 })
	settle(t, "warming up", func() string { return "" })
	goroutines, files, dead := runtime.NumGoroutine(), openFiles(t), zombies(t)
	warm(func(kind string) int { return max(shares[kind], 500) })
	settle(t, "10,000 runs", func() string {
		now, open, undead := runtime.NumGoroutine(), openFiles(t), zombies(t)
		if now > goroutines+5 || open > files+5 || undead > dead {
			return fmt.Sprintf("%d goroutines of %d before, %d files of %d, %d zombies of %d", now, goroutines, open, files, undead, dead)
		}
		return ""
	})
}

// settle waits until nothing is wrong any more: peers notice the end of a
// connection a little later than we do.
func settle(t *testing.T, about string, wrong func() string) {
	t.Helper()
	deadline := time.Now().Add(plenty)
	for {
		runtime.GC()
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s left behind %s", about, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// BenchmarkRun is the cost of one run of each kind, with that of the peer, which
// runs in this process too, but for scripts.
func BenchmarkRun(b *testing.B) {
	for kind, d := range peers(b) {
		b.Run(kind, func(b *testing.B) {
			c, err := newChecker(&d, nil, 4096)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if status, output := run(b, c, plenty); status != health.Passing {
					b.Fatal(output)
				}
			}
		})
	}
}

// BenchmarkSchedule is the cost of a run whose probe is free: the timer, the
// goroutine and the judgement.
func BenchmarkSchedule(b *testing.B) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	p := &poller{interval: 1, timeout: time.Minute, notify: func(health.Status, string) {}}
	p.probe = probeFunc(func(context.Context) (health.Status, string) {
		if left.Add(-1) == 0 {
			close(done)
		}
		return health.Passing, ""
	})
	b.ReportAllocs()
	p.start()
	<-done
	p.stop()
}

func TestRan(t *testing.T) {
	var ran atomic.Int64
	peer := listen(t, func(net.Conn) {})
	d := Definition{TCP: peer.address, Interval: time.Second}
	p, err := Start(d, Options{
		Notify: func(health.Status, string) {},
		Ran: func(status health.Status, took time.Duration) {
			if status != health.Passing || took <= 0 {
				t.Errorf("a run gave %s after %s", status, took)
			}
			ran.Add(1)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	for deadline := time.Now().Add(plenty); ran.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing ran")
		}
	}
}

func init() { // gRPC's own log would fill that of a test
	os.Setenv("GRPC_GO_LOG_SEVERITY_LEVEL", "none")
}
