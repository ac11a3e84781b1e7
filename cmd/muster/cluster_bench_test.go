package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	// turns is how often those who are compared are asked in turn, and turnTime for
	// how long each: the system shows processor time in hundredths of a second.
	turns    = 5
	turnTime = time.Second
	// fewAskers and manyAskers are how many clients ask at once.
	fewAskers, manyAskers = 16, 64
	// askLimit bounds one question.
	askLimit = 20 * time.Second
)

// question asks once, over and over, on a connection of its own.
type question struct {
	net.Conn
	in    *bufio.Reader
	bytes []byte
	reply []byte // of DNS
}

// asking opens so many connections to an address and returns a run of some time on
// them, which says how often was asked. The texts go round among the connections.
func asking(b *testing.B, askers int, network, address string, texts ...[]byte) func(time.Duration) int {
	b.Helper()
	var all []*question
	for i := range askers {
		c, err := net.Dial(network, address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		all = append(all, &question{Conn: c, in: bufio.NewReaderSize(c, 64<<10), bytes: slices.Clone(texts[i%len(texts)]), reply: make([]byte, dns.MaxMsgSize)})
	}
	ask := (*question).askHTTP
	if network == "udp" {
		ask = (*question).askDNS
	}
	run := func(d time.Duration) int {
		end := time.Now().Add(d)
		var asked atomic.Int64
		var group sync.WaitGroup
		for _, q := range all {
			group.Go(func() {
				n := 0
				defer func() { asked.Add(int64(n)) }()
				for time.Now().Before(end) {
					if err := ask(q); err != nil {
						b.Error(err)
						return
					}
					n++
				}
			})
		}
		group.Wait()
		if b.Failed() {
			b.FailNow()
		}
		return int(asked.Load())
	}
	// Connections that ask nothing are closed after a while: each asks at once.
	run(10 * time.Millisecond)
	return run
}

// askHTTP does next to nothing, so that the machine's time is the agent's.
func (q *question) askHTTP() error {
	if err := q.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return err
	}
	if _, err := q.Write(q.bytes); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := q.in.ReadSlice('\n')
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
	_, err := q.in.Discard(length)
	return err
}

// askDNS wants three records.
func (q *question) askDNS() error {
	if err := q.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return err
	}
	if _, err := q.Write(q.bytes); err != nil {
		return err
	}
	n, err := q.Read(q.reply)
	if err != nil {
		return err
	}
	if n < 12 || !bytes.Equal(q.reply[:2], q.bytes[:2]) || q.reply[3]&0xf != 0 || q.reply[6] != 0 || q.reply[7] != 3 {
		return fmt.Errorf("answered with %x", q.reply[:n])
	}
	return nil
}

// getting is a request for a target.
func getting(target string) []byte {
	return []byte("GET " + target + " HTTP/1.1\r\nHost: muster\r\n\r\n")
}

// turn is what one turn came to: how many were asked a second, and what one took
// of each agent's processor time, in nanoseconds.
type turn struct {
	rate float64
	cpu  map[*vessel]float64
}

// take asks for a while and looks at what all agents spent on it.
func (f *fleet) take(b *testing.B, run func(time.Duration) int) turn {
	b.Helper()
	before := map[*vessel]time.Duration{}
	for _, v := range f.all() {
		before[v] = usageOf(b, v.command.Process.Pid).cpu
	}
	began := time.Now()
	n := float64(run(turnTime))
	t := turn{rate: n / time.Since(began).Seconds(), cpu: map[*vessel]float64{}}
	for _, v := range f.all() {
		t.cpu[v] = float64(usageOf(b, v.command.Process.Pid).cpu-before[v]) / n
	}
	return t
}

// of is what some agents spent on one question.
func (t turn) of(vessels ...*vessel) float64 {
	sum := 0.0
	for _, v := range vessels {
		sum += t.cpu[v]
	}
	return sum
}

// compared lets some runs take turns, and gives the turns of each.
func (f *fleet) compared(b *testing.B, runs ...func(time.Duration) int) [][]turn {
	b.Helper()
	out := make([][]turn, len(runs))
	for range turns {
		for i, run := range runs {
			out[i] = append(out[i], f.take(b, run))
		}
	}
	return out
}

// middle is the median of what turns came to.
func middle(all []turn, of func(turn) float64) float64 {
	values := make([]float64, len(all))
	for i, t := range all {
		values[i] = of(t)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func rateOf(t turn) float64 { return t.rate }

// together asks on all connections of several runs at once.
func together(runs ...func(time.Duration) int) func(time.Duration) int {
	return func(d time.Duration) int {
		var sum atomic.Int64
		var group sync.WaitGroup
		for _, run := range runs {
			group.Go(func() { sum.Add(int64(run(d))) })
		}
		group.Wait()
		return int(sum.Load())
	}
}

// idling asks nothing, and counts seconds.
func idling(d time.Duration) int {
	rest := time.NewTimer(d)
	<-rest.C
	return int(d / time.Second)
}

// benchFleet is three servers and a client agent, which know a key and services of
// 3 and 50 instances, each on a node of its own with a check that passes.
func benchFleet(b *testing.B) (f *fleet, leader *vessel) {
	b.Helper()
	f = startFleet(b, 3, 1, "")
	leader = f.leader(b)
	put := func(path, body string) {
		b.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		defer cancel()
		status, answer, err := request(ctx, http.DefaultClient, "PUT", "http://"+leader.settings.address()+path, body)
		if err != nil || status != http.StatusOK {
			b.Fatalf("%s: status %d %s %v", path, status, answer, err)
		}
	}
	put("/v1/kv/bench", strings.Repeat("v", 256))
	for i := range manyAskers {
		put(fmt.Sprintf("/v1/kv/bench/%d", i), strings.Repeat("v", 256))
	}
	for _, instances := range []int{3, 50} {
		for i := range instances {
			put("/v1/catalog/register", fmt.Sprintf(`{"Node": "of%d-%d", "Address": "10.0.%[1]d.%d",
				"Service": {"ID": "of%[1]d-%[2]d", "Service": "of%[1]d", "Port": 8080, "Tags": ["v1", "primary"]},
				"Check": {"CheckID": "alive", "Name": "alive", "Status": "passing", "ServiceID": "of%[1]d-%[2]d", "Output": "HTTP GET: 200 OK"}}`,
				instances, i, i+1))
		}
	}
	return f, leader
}

// everyTarget fills in a target for each of those who ask.
func everyTarget(pattern string) (texts [][]byte) {
	if !strings.Contains(pattern, "%d") {
		return [][]byte{getting(pattern)}
	}
	for i := range manyAskers {
		texts = append(texts, getting(fmt.Sprintf(pattern, i)))
	}
	return texts
}

// BenchmarkClusterReads reads by default consistency from the leader, from a
// follower, from all servers and from a client agent, in turns, and says what one
// read takes of the processes of the cluster. CPU of a kind of read is the median
// of its turns. Shares are of what a read takes of the leader that answers itself,
// and leave out what the processes spend when nobody asks them anything.
func BenchmarkClusterReads(b *testing.B) {
	f, leader := benchFleet(b)
	for _, c := range []struct{ name, target string }{
		{"key", "/v1/kv/bench"},
		{"keys", "/v1/kv/bench/%d"}, // each who asks has his own
		{"health-3", "/v1/health/service/of3?passing"},
		{"health-50", "/v1/health/service/of50?passing"},
	} {
		for _, askers := range []int{fewAskers, manyAskers} {
			b.Run(fmt.Sprint(c.name, "/", askers), func(b *testing.B) {
				for b.Loop() {
					f.benchReads(b, leader, askers, everyTarget(c.target))
				}
			})
		}
	}
	f.mustLead(b, leader)
}

func (f *fleet) benchReads(b *testing.B, leader *vessel, askers int, texts [][]byte) {
	follower, client := f.followers(leader)[0], f.clients[0]
	to := func(v *vessel) func(time.Duration) int {
		return asking(b, askers, "tcp", v.settings.address(), texts...)
	}
	var three []func(time.Duration) int
	for _, v := range f.servers {
		three = append(three, to(v))
	}
	got := f.compared(b, idling, to(leader), to(follower), together(three...), to(client))
	idle, own, followed, shared, asked := got[0], got[1], got[2], got[3], got[4]
	spent := func(turns []turn, by ...*vessel) float64 {
		return middle(turns, func(t turn) float64 { return t.of(by...) })
	}
	// What a process spends on being there is no part of any read.
	busy := func(turns []turn, by ...*vessel) float64 {
		return middle(turns, func(t turn) float64 { return t.of(by...) - spent(idle, by...)/t.rate })
	}
	b.ReportMetric(spent(idle, leader)/1e6, "leader-idle-cpu-ms/s")
	b.ReportMetric(spent(idle, f.all()...)/1e6, "all-idle-cpu-ms/s")
	b.ReportMetric(spent(own, leader), "leader-cpu-ns/read")
	b.ReportMetric(spent(followed, leader), "leader-cpu-ns/followed-read")
	b.ReportMetric(busy(followed, leader)/busy(own, leader), "leader-share")
	b.ReportMetric(spent(followed, follower), "follower-cpu-ns/read")
	b.ReportMetric(spent(asked, client), "client-cpu-ns/read")
	b.ReportMetric(spent(asked, f.all()...), "client-all-cpu-ns/read")
	b.ReportMetric(busy(asked, client)/busy(own, leader), "client-share")
	b.ReportMetric(busy(asked, f.all()...)/busy(own, leader), "client-all-share")
	b.ReportMetric(middle(own, rateOf), "leader-reads/s")
	b.ReportMetric(middle(followed, rateOf), "follower-reads/s")
	b.ReportMetric(middle(shared, rateOf), "three-reads/s")
	b.ReportMetric(middle(asked, rateOf), "client-reads/s")
}

// mustLead fails if another server leads than was measured as the leader.
func (f *fleet) mustLead(b *testing.B, leader *vessel) {
	b.Helper()
	if now := f.leader(b); now != leader {
		b.Errorf("%s leads, and %s did at first: the figures are of a change", now.name, leader.name)
	}
}

// BenchmarkClusterDNS asks a follower and a client agent, which answers from
// memory, for a service of three instances.
func BenchmarkClusterDNS(b *testing.B) {
	f, leader := benchFleet(b)
	follower, client := f.followers(leader)[0], f.clients[0]
	for _, c := range []struct {
		name  string
		qtype uint16
	}{{"A", dns.TypeA}, {"SRV", dns.TypeSRV}} {
		b.Run(c.name, func(b *testing.B) {
			text, err := new(dns.Msg).SetQuestion("of3.service.consul.", c.qtype).Pack()
			if err != nil {
				b.Fatal(err)
			}
			to := func(v *vessel) func(time.Duration) int {
				return asking(b, fewAskers, "udp", fmt.Sprintf("127.0.0.1:%d", v.settings.ports.dns), text)
			}
			for b.Loop() {
				got := f.compared(b, to(follower), to(client))
				b.ReportMetric(middle(got[0], func(t turn) float64 { return t.of(follower) }), "server-cpu-ns/query")
				b.ReportMetric(middle(got[1], func(t turn) float64 { return t.of(client) }), "client-cpu-ns/query")
				b.ReportMetric(middle(got[1], func(t turn) float64 { return t.of(f.servers...) }), "servers-cpu-ns/client-query")
				b.ReportMetric(middle(got[0], rateOf), "server-queries/s")
				b.ReportMetric(middle(got[1], rateOf), "client-queries/s")
			}
		})
	}
}

// BenchmarkClusterIdle says what the agents of a cluster weigh, and spend, when
// nobody asks them anything.
func BenchmarkClusterIdle(b *testing.B) {
	f := startFleet(b, 3, 1, "")
	leader := f.leader(b)
	for b.Loop() {
		idling(quietTime)
		got := f.compared(b, idling)[0]
		for name, v := range map[string]*vessel{"client": f.clients[0], "leader": leader, "follower": f.followers(leader)[0]} {
			u := usageOf(b, v.command.Process.Pid)
			b.ReportMetric(mib(u.resident), name+"-RSS-MiB")
			b.ReportMetric(mib(u.anonymous), name+"-anonymous-MiB")
			b.ReportMetric(middle(got, func(t turn) float64 { return t.of(v) })/1e6, name+"-cpu-ms/s")
		}
	}
	b.ReportMetric(float64(sizeOf(b, f.binary))/1e6, "binary-MB")
}
