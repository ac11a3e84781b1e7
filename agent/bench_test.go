package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/miekg/dns"
	"go.etcd.io/bbolt"

	"github.com/muster-sd/muster/agent/agenttest"
)

// rounds is how often the agent and its ceiling take turns in one benchmark, so
// that what the machine does besides meets both.
const rounds = 5

// cost is what one side of a round took for each operation. CPU and allocations
// are those of the process, so the client's share is in them on both sides.
type cost struct{ wall, cpu, allocations float64 }

// compare runs b.N operations on the agent and as many on the ceiling, in turns,
// and reports the medians. The metric "of-ceiling" is the ceiling's time by the
// agent's: 1 is as fast as it can be. On a machine that does much besides, the
// same of the CPU time, "cpu-of-ceiling", says more.
func compare(b *testing.B, ours, ceiling func(n int)) {
	n := (b.N + rounds - 1) / rounds
	var a, c []cost
	var ratios, cpuRatios []float64
	for range rounds {
		a = append(a, measure(n, ours))
		c = append(c, measure(n, ceiling))
		ours, best := a[len(a)-1], c[len(c)-1]
		ratios, cpuRatios = append(ratios, best.wall/ours.wall), append(cpuRatios, best.cpu/ours.cpu)
	}
	median := func(all []cost, of func(cost) float64) float64 {
		values := make([]float64, len(all))
		for i := range all {
			values[i] = of(all[i])
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	wall, cpu, allocations := func(c cost) float64 { return c.wall }, func(c cost) float64 { return c.cpu }, func(c cost) float64 { return c.allocations }
	slices.Sort(ratios)
	slices.Sort(cpuRatios)
	b.ReportMetric(median(a, wall), "ns/op")
	b.ReportMetric(median(c, wall), "ceiling-ns/op")
	b.ReportMetric(ratios[len(ratios)/2], "of-ceiling")
	b.ReportMetric(cpuRatios[len(cpuRatios)/2], "cpu-of-ceiling")
	b.ReportMetric(median(a, cpu), "cpu-ns/op")
	b.ReportMetric(median(c, cpu), "ceiling-cpu-ns/op")
	b.ReportMetric(median(a, allocations), "mallocs/op")
	b.ReportMetric(median(c, allocations), "ceiling-mallocs/op")
}

func measure(n int, run func(n int)) cost {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, began := processTime(), time.Now()
	run(n)
	wall, spent := time.Since(began), processTime()-cpu
	runtime.ReadMemStats(&after)
	each := float64(n)
	return cost{float64(wall) / each, float64(spent) / each, float64(after.Mallocs-before.Mallocs) / each}
}

func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// asker asks one question after the other on a connection of its own.
type asker interface {
	ask(serial uint64) error
	io.Closer
}

// clients returns a run of n questions that some clients share. The clients, and
// their connections, are the same in all runs.
func clients(b *testing.B, count int, dial func() (asker, error)) func(n int) {
	b.Helper()
	var serial atomic.Uint64
	all := make([]asker, count)
	for i := range all {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		all[i] = c
	}
	return func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var running sync.WaitGroup
		for _, c := range all {
			running.Go(func() {
				for left.Add(-1) >= 0 {
					if err := c.ask(serial.Add(1)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	}
}

// lean is an HTTP client that does next to nothing, so that what is measured is
// the server.
type lean struct {
	net.Conn
	in      *bufio.Reader
	out     []byte
	request func(out []byte, serial uint64) []byte
}

func dialHTTP(address string, request func(out []byte, serial uint64) []byte) func() (asker, error) {
	return func() (asker, error) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		return &lean{Conn: c, in: bufio.NewReaderSize(c, 64<<10), request: request}, nil
	}
}

func (c *lean) ask(serial uint64) error {
	c.out = c.request(c.out[:0], serial)
	if _, err := c.Write(c.out); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answered with %q", line)
		}
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer has no length")
	}
	_, err := c.in.Discard(length)
	return err
}

// get asks for one target, over and over.
func get(target string) func(out []byte, serial uint64) []byte {
	request := "GET " + target + " HTTP/1.1\r\nHost: muster\r\n\r\n"
	return func(out []byte, _ uint64) []byte { return append(out, request...) }
}

// serve serves a handler as bare as can be, and returns where.
func serve(b *testing.B, h http.Handler) (address string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// bareRaft is Raft on the same stores with the same settings as the agent's, with
// a state machine that does nothing.
func bareRaft(b *testing.B) *raft.Raft {
	b.Helper()
	config := raft.DefaultConfig()
	config.LocalID = "a"
	config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	config.SnapshotThreshold, config.SnapshotInterval, config.TrailingLogs = 16384, 20*time.Second, 10240
	config.NoLegacyTelemetry = true
	config.Logger = hclog.NewNullLogger()
	dir := b.TempDir()
	db, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "raft.db"), MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	logs, err := raft.NewLogCache(512, db)
	if err != nil {
		b.Fatal(err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, config.Logger)
	if err != nil {
		b.Fatal(err)
	}
	_, transport := raft.NewInmemTransport("a")
	if err := raft.BootstrapCluster(config, logs, db, snapshots, transport, raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(config, idle{}, logs, db, snapshots, transport)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Shutdown().Error() })
	<-r.LeaderCh()
	return r
}

// idle is a state machine of nothing.
type idle struct{}

func (idle) Apply(*raft.Log) any                  { return nil }
func (idle) ApplyBatch(logs []*raft.Log) []any    { return make([]any, len(logs)) }
func (idle) Snapshot() (raft.FSMSnapshot, error)  { return idle{}, nil }
func (idle) Restore(r io.ReadCloser) error        { return r.Close() }
func (idle) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (idle) Release()                             {}

// BenchmarkPutKey writes keys that last, from 64 clients at once. The ceiling
// hands the bodies to Raft and answers when it has them.
func BenchmarkPutKey(b *testing.B) {
	const atOnce, values = 64, 10_000
	body := strings.Repeat("v", 256)
	put := func(out []byte, serial uint64) []byte {
		out = append(out, "PUT /v1/kv/bench/"...)
		out = strconv.AppendUint(out, serial%values, 10)
		out = append(out, " HTTP/1.1\r\nHost: muster\r\nContent-Length: 256\r\n\r\n"...)
		out = strconv.AppendUint(out, 1e15+serial, 10) // no value is written twice
		return append(out, body[16:]...)
	}
	a := agenttest.Start(b, agenttest.OnDisk(b.TempDir()))
	r := bareRaft(b)
	bare := serve(b, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		data, err := io.ReadAll(request.Body)
		if err == nil {
			err = r.Apply(data, time.Minute).Error()
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, "true")
	}))
	ours, ceiling := clients(b, atOnce, dialHTTP(a.HTTP, put)), clients(b, atOnce, dialHTTP(bare, put))
	b.Run("64-at-once", func(b *testing.B) { compare(b, ours, ceiling) })
}

// register puts a service of some instances into the catalog, each on a node of
// its own with a check that passes.
func register(b *testing.B, a *agenttest.Agent, service string, instances int) {
	b.Helper()
	for i := range instances {
		body := fmt.Sprintf(`{"Node": "%s-%d", "Address": "10.0.%d.%d",
			"Service": {"ID": "%[1]s-%[2]d", "Service": %[1]q, "Port": 8080, "Tags": ["v1", "primary"]},
			"Check": {"CheckID": "alive", "Name": "alive", "Status": "passing", "ServiceID": "%[1]s-%[2]d", "Output": "HTTP GET: 200 OK"}}`,
			service, i, i/250, i%250+1)
		got, err := try(context.Background(), "PUT", a.URL("/v1/catalog/register"), body)
		if err != nil || got.code != http.StatusOK {
			b.Fatal(got, err)
		}
	}
}

// same is a bare server that answers with the bytes and headers that the agent
// answers with.
func same(b *testing.B, a *agenttest.Agent, pattern, target string) (address string) {
	b.Helper()
	response, err := http.Get(a.URL(target))
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.Status, err)
	}
	header := response.Header.Clone()
	header.Del("Date") // the server's own
	header.Set("Content-Length", strconv.Itoa(len(body)))
	mux := chi.NewMux()
	mux.Get(pattern, func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		_, _ = w.Write(body)
	})
	return serve(b, mux)
}

// BenchmarkGet reads over HTTP from 16 clients at once. The ceiling answers with
// bytes that stand ready.
func BenchmarkGet(b *testing.B) {
	const atOnce = 16
	a := agenttest.Start(b, agenttest.OnDisk(b.TempDir()))
	if got, err := try(context.Background(), "PUT", a.URL("/v1/kv/bench"), strings.Repeat("v", 256)); err != nil || got.body != "true" {
		b.Fatal(got, err)
	}
	run := func(name, pattern, target string) {
		ours, ceiling := clients(b, atOnce, dialHTTP(a.HTTP, get(target))), clients(b, atOnce, dialHTTP(same(b, a, pattern, target), get(target)))
		b.Run(name, func(b *testing.B) { compare(b, ours, ceiling) })
	}
	run("key", "/v1/kv/*", "/v1/kv/bench")
	for _, instances := range []int{3, 50, 500} {
		service := fmt.Sprintf("of%d", instances)
		register(b, a, service, instances)
		run(fmt.Sprintf("health-%d", instances), "/v1/health/service/*", "/v1/health/service/"+service+"?passing")
	}
}

// questioner is a DNS client on a UDP socket of its own.
type questioner struct {
	net.Conn
	query, reply []byte
}

func dialDNS(address string, query []byte) func() (asker, error) {
	return func() (asker, error) {
		c, err := net.Dial("udp", address)
		if err != nil {
			return nil, err
		}
		return &questioner{c, slices.Clone(query), make([]byte, dns.MaxMsgSize)}, nil
	}
}

func (q *questioner) ask(serial uint64) error {
	binary.BigEndian.PutUint16(q.query, uint16(serial))
	if _, err := q.Write(q.query); err != nil {
		return err
	}
	n, err := q.Read(q.reply)
	if err != nil {
		return err
	}
	if n < 12 || !bytes.Equal(q.reply[:2], q.query[:2]) || q.reply[3]&0xf != 0 || binary.BigEndian.Uint16(q.reply[6:]) != 3 {
		return fmt.Errorf("answered with %x", q.reply[:n])
	}
	return nil
}

// BenchmarkDNS asks for a service of three instances by UDP, from 16 clients at
// once. The ceiling answers with a message that stands ready.
func BenchmarkDNS(b *testing.B) {
	const atOnce = 16
	a := agenttest.Start(b, agenttest.OnDisk(b.TempDir()))
	register(b, a, "web", 3)
	for _, c := range []struct {
		name  string
		qtype uint16
	}{{"A", dns.TypeA}, {"SRV", dns.TypeSRV}} {
		question := new(dns.Msg).SetQuestion("web.service.consul.", c.qtype)
		query, err := question.Pack()
		if err != nil {
			b.Fatal(err)
		}
		fixed, err := dns.Exchange(question, a.DNS)
		if err != nil {
			b.Fatal(err)
		}
		fixed.Compress = true
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		bare := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
			reply := *fixed
			reply.Id = request.Id
			_ = w.WriteMsg(&reply)
		})}
		go func() { _ = bare.ActivateAndServe() }()
		b.Cleanup(func() { _ = bare.Shutdown() })
		ours, ceiling := clients(b, atOnce, dialDNS(a.DNS, query)), clients(b, atOnce, dialDNS(packets.LocalAddr().String(), query))
		b.Run(c.name, func(b *testing.B) { compare(b, ours, ceiling) })
	}
}
