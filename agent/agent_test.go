package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/muster-sd/muster/agent"
	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/config"
)

// answer is what an agent answered.
type answer struct {
	code   int
	header http.Header
	body   string
}

func do(t *testing.T, method, url, body string) answer {
	t.Helper()
	a, err := try(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(ctx context.Context, method, url, body string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, strings.TrimSpace(string(text))}, err
}

// eventually asks for a path until its answer is as wanted. Each question but
// the first waits at the agent for a change.
func eventually(t *testing.T, a *agenttest.Agent, path string, wanted func(answer) bool) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	query := ""
	for {
		got, err := try(ctx, "GET", a.URL(path)+query, "")
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if wanted(got) {
			return got
		}
		query = "?wait=1s&index=" + got.header.Get("X-Consul-Index")
	}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestTheAgentStandsInItsCatalog(t *testing.T) {
	a := agenttest.Start(t, agenttest.Name("Alpha"), agenttest.HCL(`
		advertise_addr_wan = "192.0.2.7"
		tagged_addresses { special = "192.0.2.8" }
		node_meta { rack = "r1" }`))
	got := do(t, "GET", a.URL("/v1/catalog/node/alpha"), "")
	var detail struct {
		Node struct {
			ID, Node, Address, Datacenter string
			TaggedAddresses, Meta         map[string]string
		}
		Services map[string]struct {
			Service string
			Port    int
			Meta    map[string]string
		}
	}
	if err := json.Unmarshal([]byte(got.body), &detail); err != nil {
		t.Fatal(err)
	}
	n := detail.Node
	if n.ID != a.NodeID() || n.Node != "Alpha" || n.Address != "127.0.0.1" || n.Datacenter != "dc1" {
		t.Errorf("the node is %+v", n)
	}
	if want := map[string]string{"lan": "127.0.0.1", "lan_ipv4": "127.0.0.1", "wan": "192.0.2.7", "wan_ipv4": "192.0.2.7", "special": "192.0.2.8"}; !maps.Equal(n.TaggedAddresses, want) {
		t.Errorf("the addresses are %v, want %v", n.TaggedAddresses, want)
	}
	if want := map[string]string{"rack": "r1", "consul-network-segment": "", "consul-version": agent.CompatVersion}; !maps.Equal(n.Meta, want) {
		t.Errorf("the metadata is %v, want %v", n.Meta, want)
	}
	_, port, _ := net.SplitHostPort(a.ServerAddr())
	server := detail.Services["consul"]
	if strconv.Itoa(server.Port) != port || server.Meta["version"] != agent.CompatVersion || server.Meta["raft_version"] != "3" {
		t.Errorf("the service that stands for the server is %+v", server)
	}
}

func TestChangesCarryTheirOrigin(t *testing.T) {
	a := agenttest.Start(t)
	start := a.History().Oldest()
	do(t, "PUT", a.URL("/v1/kv/some/key"), "1")
	records, err := a.History().Since(start)
	if err != nil || len(records) == 0 {
		t.Fatal(records, err)
	}
	// The leader's own doing, and that of its anti-entropy, come before the key.
	byLeader := 0
	for _, r := range records {
		if r.Origin.Endpoint == "leader" {
			byLeader++
			if r.Origin.Node != "n1" || r.Origin.Address != "" {
				t.Errorf("the leader's duty has the origin %+v", r.Origin)
			}
		}
	}
	if byLeader != 3 { // the cluster's ID, how servers are looked after, and the leader's node
		t.Errorf("%d changes are the leader's", byLeader)
	}
	last := records[len(records)-1].Origin
	if host, _, err := net.SplitHostPort(last.Address); err != nil || host != "127.0.0.1" || last.Node != "n1" || last.Endpoint != "PUT /v1/kv/" {
		t.Errorf("the key's origin is %+v", last)
	}
}

func TestWaitingReadersAreAnsweredWhenTheAgentStops(t *testing.T) {
	a := agenttest.Start(t)
	do(t, "PUT", a.URL("/v1/kv/key"), "1")
	index := do(t, "GET", a.URL("/v1/kv/key"), "").header.Get("X-Consul-Index")
	results := make(chan answer, 1)
	began := make(chan struct{})
	go func() {
		// A first question on the connection tells that it is open.
		if _, err := try(context.Background(), "GET", a.URL("/v1/status/leader"), ""); err != nil {
			t.Error(err)
		}
		close(began)
		got, err := try(context.Background(), "GET", a.URL("/v1/kv/key?raw&wait=5m&index="+index), "")
		if err != nil {
			t.Error(err)
		}
		results <- got
	}()
	<-began
	waitForReader(t, a)
	start := time.Now()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := <-results; got.code != 200 || got.body != "1" || got.header.Get("X-Consul-Index") != index {
		t.Errorf("the reader got %+v", got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// waitForReader returns once a reader waits in the agent's backend.
func waitForReader(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for a.Waiting() == 0 {
		select {
		case <-again.C:
		case <-limit.C:
			t.Fatal("no reader waits")
		}
	}
}

func TestLeaveEndsTheAgentAndKeepsItsData(t *testing.T) {
	a := agenttest.Start(t, agenttest.OnDisk(t.TempDir()))
	do(t, "PUT", a.URL("/v1/kv/key"), "1")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Leave(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if err := a.Wait(); err != nil {
		t.Error(err)
	}
	if err := a.Leave(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	a.Restart()
	if got := do(t, "GET", a.URL("/v1/kv/key?raw"), ""); got.body != "1" {
		t.Errorf("after the return: %+v", got)
	}
}

// raw is what agent.New needs, on ports of the kernel's, with sockets that the test
// can reach.
func raw(t *testing.T, hcl string) agent.Options {
	t.Helper()
	cfg, err := config.Load(config.Sources{Dev: !strings.Contains(hcl, "data_dir"), HCL: []string{`node_name = "n1"`, `bind_addr = "127.0.0.1"`, hcl}})
	if err != nil {
		t.Fatal(err)
	}
	stream := func(address string) net.Listener {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	l := agent.Listeners{HTTP: []net.Listener{stream("127.0.0.1:0")}, Server: stream("127.0.0.1:0"), DNSStreams: []net.Listener{stream("127.0.0.1:0")}}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	l.DNSPackets = []net.PacketConn{packets}
	return agent.Options{
		Config: cfg, Logger: slog.New(slog.DiscardHandler), Listeners: l,
		Network: agent.Network{GossipAddr: netip.MustParseAddrPort("127.0.0.1:0")},
	}
}

func isClosed(l net.Listener) bool {
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

func TestAPartThatFailsEndsTheAgent(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(l agent.Listeners) error
		want string
	}{
		{"HTTP", func(l agent.Listeners) error { return l.HTTP[0].Close() }, "the HTTP server on 127.0.0.1:"},
		{"DNS by UDP", func(l agent.Listeners) error { return l.DNSPackets[0].Close() }, "the DNS server failed"},
		{"DNS by TCP", func(l agent.Listeners) error { return l.DNSStreams[0].Close() }, "the DNS server failed"},
		{"the server port", func(l agent.Listeners) error { return l.Server.Close() }, "the server port failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := raw(t, "")
			a, err := agent.New(o)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- a.Run(context.Background()) }()
			do(t, "GET", "http://"+o.Listeners.HTTP[0].Addr().String()+"/v1/kv/a", "") // it serves
			if err := c.fail(o.Listeners); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the agent runs on")
			}
			for _, l := range append(append(o.Listeners.HTTP, o.Listeners.DNSStreams...), o.Listeners.Server) {
				if !isClosed(l) {
					t.Errorf("%s is still open", l.Addr())
				}
			}
		})
	}
}

// An error about the data directory says which setting named it, and a client agent
// that is given a server's says so.
func TestDataDirectoryIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(file, "data")
	_, err := agent.New(raw(t, "data_dir = "+strconv.Quote(below)))
	if err == nil || !strings.HasPrefix(err.Error(), "-hcl fragment 3:1:12: data_dir = "+strconv.Quote(below)+": ") {
		t.Errorf("a folder that cannot be made: %v", err)
	}

	dir := t.TempDir()
	for _, c := range []struct {
		hcl  string
		said bool
	}{
		{"", false},
		{"server = true\nbootstrap_expect = 1", false},
		{"", true},
	} {
		log := &buffer{}
		o := raw(t, "data_dir = "+strconv.Quote(dir)+"\n"+c.hcl)
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		a, err := agent.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
		if said := strings.Contains(log.String(), agent.PhraseServersData); said != c.said {
			t.Errorf("%q: the log says that the data is a server's: %v, want %v", c.hcl, said, c.said)
		}
	}
}

func TestANewThatFailsUndoesEverything(t *testing.T) {
	for _, c := range []struct {
		name, hcl, want string
		before          func(t *testing.T, dir string)
	}{
		{name: "a data directory that is not ours", want: "not Muster's", before: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "photo"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a definition that cannot be accepted", hcl: `check { name = "lonely" service_id = "nobody" ttl = "9s" }`, want: `"nobody" does not exist`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != nil {
				c.before(t, dir)
			}
			hcl := "server = true\nbootstrap_expect = 1\ndata_dir = " + strconv.Quote(dir)
			o := raw(t, hcl+"\n"+c.hcl)
			if a, err := agent.New(o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v, want %q", a, err, c.want)
			}
			for _, l := range append(append(o.Listeners.HTTP, o.Listeners.DNSStreams...), o.Listeners.Server) {
				if !isClosed(l) {
					t.Errorf("%s is still open", l.Addr())
				}
			}
			if _, err := o.Listeners.DNSPackets[0].WriteTo(nil, o.Listeners.DNSPackets[0].LocalAddr()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the DNS socket is still open: %v", err)
			}
			if c.before != nil {
				return
			}
			again := raw(t, hcl)
			a, err := agent.New(again)
			if err != nil {
				t.Fatalf("the data directory was not let go of: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := a.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARunThatIsToldToEndBeforeItBegan(t *testing.T) {
	a, err := agent.New(raw(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestDataOfAnotherServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	a := agenttest.Start(t, agenttest.OnDisk(dir))
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	const other = "bbbbbbbb-0000-4000-8000-000000000002"
	o := raw(t, "server = true\nbootstrap_expect = 1\nnode_id = \""+other+"\"\ndata_dir = "+strconv.Quote(dir))
	if _, err := agent.New(o); err == nil || !strings.Contains(err.Error(), a.NodeID()) || !strings.Contains(err.Error(), other) {
		t.Errorf("got %v", err)
	}
	id := a.NodeID()
	a.Restart() // the refusal has left no trace
	if a.NodeID() != id {
		t.Errorf("the node's ID went from %s to %s", id, a.NodeID())
	}
}

func lookup(t *testing.T, a *agenttest.Agent, name string) *dns.Msg {
	t.Helper()
	return exchange(t, a, name, dns.TypeA)
}

func exchange(t *testing.T, a *agenttest.Agent, name string, kind uint16) *dns.Msg {
	t.Helper()
	m, _, err := (&dns.Client{Timeout: 30 * time.Second}).Exchange(new(dns.Msg).SetQuestion(name, kind), a.DNS)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReload(t *testing.T) {
	log := new(buffer)
	a := agenttest.Start(t, agenttest.Log(log), agenttest.HCL(`service { name = "old" port = 1 }`))
	eventually(t, a, "/v1/catalog/services", func(got answer) bool { return strings.Contains(got.body, `"old"`) })
	if ttl := lookup(t, a, "n1.node.consul.").Answer[0].Header().Ttl; ttl != 0 {
		t.Errorf("the TTL was %d before", ttl)
	}

	next := []string{
		`service { name = "new" port = 2 }`, `node_meta { rack = "r2" }`, `dns_config { node_ttl = "7s" }`, `log_level = "ERROR"`,
		`domain = "example."`,
	}
	cfg, err := a.Load(next[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Services = cfg.Services[:0]
	with, err := a.Load(next[0])
	if err != nil {
		t.Fatal(err)
	}
	cfg.Services = append(cfg.Services, with.Services[len(with.Services)-1])
	report, err := a.Reload(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Restart) != 1 || report.Restart[0].Key != "domain" || len(report.Applied) != 4 {
		t.Errorf("the report is %+v", report)
	}
	eventually(t, a, "/v1/catalog/services", func(got answer) bool {
		return strings.Contains(got.body, `"new"`) && !strings.Contains(got.body, `"old"`)
	})
	eventually(t, a, "/v1/catalog/node/n1", func(got answer) bool { return strings.Contains(got.body, `"r2"`) })
	if got := do(t, "GET", a.URL("/v1/agent/self"), ""); !strings.Contains(got.body, `"r2"`) {
		t.Errorf("the agent does not tell its new metadata: %s", got.body)
	}
	if m := lookup(t, a, "n1.node.consul."); len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 7 {
		t.Errorf("the answer after is %v", m)
	}
	if a.Level() != slog.LevelError {
		t.Errorf("the level is %v", a.Level())
	}
	for _, line := range []string{
		`[WARN]  agent.reload: A setting changed and needs a restart: key=domain change="from \"consul.\" to \"example.\""`,
		`[INFO]  agent.reload: A setting was taken over: key=dns_config.node_ttl change="from unset to 7s"`,
		`[INFO]  agent.reload: A setting was taken over: key=services change="1 added (new), 1 removed (old)"`,
	} {
		if strings.Count(log.String(), line+"\n") != 1 {
			t.Errorf("the log does not say once: %s\n%s", line, log.String())
		}
	}
}
