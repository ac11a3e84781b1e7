package agent_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/muster-sd/muster/agent/agenttest"
	"github.com/muster-sd/muster/agent/gossip"
)

// fabric is a network between network namespaces: each has a device whose packets
// come to this process, which passes them on, late, or not at all. The kernels of
// both sides do the rest as on any network. Packets need no modules of the kernel
// that way.
type fabric struct {
	mu     sync.Mutex
	ports  map[netip.Addr]*port
	cuts   map[[2]string]bool // by names
	loss   float64
	delay  time.Duration
	random *rand.Rand
}

// port is one namespace's connection to the fabric.
type port struct {
	name  string
	space string // the namespace
	tun   *os.File
	queue chan frame
}

// frame is a packet under way.
type frame struct {
	due  time.Time
	data []byte
}

const (
	// portQueue is how many packets wait for a namespace at most; those beyond are
	// lost.
	portQueue = 4096
	// frameSize is the largest packet in bytes.
	frameSize = 1500
)

// newFabric returns a network, or skips the test where none can be made.
func newFabric(t *testing.T, seed uint64) *fabric {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces can only be made by root here")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("network namespaces need iproute2: %v", err)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("the network between namespaces needs a TUN device: %v", err)
	}
	probe := fmt.Sprintf("muster-%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", probe).CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be made here: %v: %s", err, out)
	}
	ip(t, "netns", "delete", probe)
	return &fabric{ports: map[netip.Addr]*port{}, cuts: map[[2]string]bool{}, random: rand.New(rand.NewPCG(seed, seed))}
}

// ip runs a command of iproute2.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// attach makes a namespace with a connection to the fabric and no address yet.
func (f *fabric) attach(t *testing.T, name string, number int) *port {
	t.Helper()
	device := fmt.Sprintf("mu%d-%d", os.Getpid(), number)
	p := &port{name: name, space: fmt.Sprintf("muster-%d-%d", os.Getpid(), number), queue: make(chan frame, portQueue)}
	ip(t, "netns", "add", p.space)
	t.Cleanup(func() { ip(t, "netns", "delete", p.space) })
	tun, err := openTUN(device)
	if err != nil {
		t.Skipf("cannot make a TUN device here: %v", err)
	}
	p.tun = tun
	var group sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() { // which removes the device
		close(done)
		_ = tun.Close()
		group.Wait()
	})
	ip(t, "link", "set", device, "netns", p.space)
	ip(t, "-n", p.space, "link", "set", device, "name", "eth0")
	ip(t, "-n", p.space, "link", "set", "lo", "up")
	ip(t, "-n", p.space, "link", "set", "eth0", "up")
	group.Go(func() { f.forward(p) })
	group.Go(func() { p.deliver(done) })
	return p
}

// openTUN makes a device whose packets are read and written here.
func openTUN(name string) (*os.File, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:15], name)
	request.flags = syscall.IFF_TUN | syscall.IFF_NO_PI
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return nil, errors.Join(errno, syscall.Close(fd))
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// move gives a port an address instead of those that it has, and none if it is not
// valid.
func (f *fabric) move(t *testing.T, p *port, at netip.Addr) {
	t.Helper()
	f.mu.Lock()
	for a, q := range f.ports {
		if q == p {
			delete(f.ports, a)
		}
	}
	if at.IsValid() {
		f.ports[at] = p
	}
	f.mu.Unlock()
	ip(t, "-n", p.space, "addr", "flush", "dev", "eth0")
	if at.IsValid() {
		ip(t, "-n", p.space, "addr", "add", at.String()+"/24", "dev", "eth0")
	}
}

// forward takes what a namespace sends.
func (f *fabric) forward(from *port) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.tun.Read(b)
		if err != nil {
			return // closed
		}
		if n < 20 || n > frameSize || b[0]>>4 != 4 {
			continue
		}
		destination := netip.AddrFrom4([4]byte(b[16:20]))
		f.mu.Lock()
		to := f.ports[destination]
		lost := to == nil || f.cuts[[2]string{from.name, to.name}] || f.random.Float64() < f.loss
		due := time.Now().Add(f.delay)
		f.mu.Unlock()
		if lost {
			continue
		}
		select {
		case to.queue <- frame{due, slices.Clone(b[:n])}:
		default:
		}
	}
}

// deliver gives a namespace what is sent to it.
func (p *port) deliver(done <-chan struct{}) {
	for {
		select {
		case f := <-p.queue:
			timer := time.NewTimer(time.Until(f.due))
			select {
			case <-timer.C:
			case <-done:
				timer.Stop()
				return
			}
			_, _ = p.tun.Write(f.data) // a device that is down loses it
		case <-done:
			return
		}
	}
}

func (f *fabric) cut(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts[[2]string{from, to}] = true
}

func (f *fabric) part(some, others []string) {
	for _, a := range some {
		for _, b := range others {
			f.cut(a, b)
			f.cut(b, a)
		}
	}
}

func (f *fabric) set(loss float64, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loss, f.delay = loss, delay
}

func (f *fabric) heal() {
	f.set(0, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.cuts)
}

// island is an agent's process in a namespace of its own.
type island struct {
	trial   *spaces
	name    string
	server  bool
	dir     string
	port    *port
	at      netip.Addr
	address string // of HTTP, from outside
	command *exec.Cmd
	ended   chan struct{}
	log     *os.File
	client  *http.Client
}

// spaces is a cluster of processes in namespaces, under load.
type spaces struct {
	t       *testing.T
	fabric  *fabric
	binary  string
	servers []*island
	clients []*island
	hints   string // where all look for the cluster
	load    *agenttest.Load
}

// addressOf is that of the n-th agent at first.
func addressOf(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|99<<16|uint32(n))
	return netip.AddrFrom4(b)
}

// newSpaces starts a cluster and lets clients use it.
func newSpaces(t *testing.T, servers, clients int) *spaces {
	t.Helper()
	if *chaosTime == 0 {
		t.Skip("it starts processes in network namespaces: give -chaos")
	}
	seed := seedOf(t)
	x := &spaces{t: t, fabric: newFabric(t, seed), binary: filepath.Join(t.TempDir(), "muster")}
	if out, err := exec.Command("go", "build", "-o", x.binary, "../cmd/muster").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the binary: %v\n%s", err, out)
	}
	var hints []string
	for i := range servers {
		hints = append(hints, `"`+addressOf(i+1).String()+`"`)
	}
	x.hints = strings.Join(hints, ", ")
	for i := range servers + clients {
		name := fmt.Sprintf("s%d", i+1)
		if i >= servers {
			name = fmt.Sprintf("c%d", i-servers+1)
		}
		// The path of a socket has to be short.
		dir, err := os.MkdirTemp("", "muster-ns-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		p := &island{trial: x, name: name, server: i < servers, dir: dir, at: addressOf(i + 1)}
		if p.server {
			x.servers = append(x.servers, p)
		} else {
			x.clients = append(x.clients, p)
		}
		p.port = x.fabric.attach(t, name, i)
		x.fabric.move(t, p.port, p.at)
		p.serveOutside(t)
		t.Cleanup(p.end)
	}
	for _, p := range x.all() {
		p.start()
	}
	x.awaitWhole()
	var targets []agenttest.Target
	for _, p := range x.all() {
		targets = append(targets, agenttest.Target{Name: p.name, Address: p.address, Server: p.server})
	}
	x.load = agenttest.StartLoad("n", seed, chaosClients, targets)
	t.Cleanup(x.load.Stop)
	x.awaitProgress(x.all()...)
	return x
}

func (x *spaces) all() []*island { return slices.Concat(x.servers, x.clients) }

// serveOutside passes connections to a port of this machine on to the agent's
// socket.
func (p *island) serveOutside(t *testing.T) {
	t.Helper()
	socket := filepath.Join(p.dir, "http")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			outside, err := l.Accept()
			if err != nil {
				return
			}
			inside, err := net.Dial("unix", socket)
			if err != nil {
				_ = outside.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{outside, inside}, {inside, outside}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
					_ = way[1].Close()
				}()
			}
		}
	}()
}

// start starts the agent's process.
func (p *island) start() {
	t := p.trial.t
	t.Helper()
	expect := ""
	if p.server {
		expect = fmt.Sprintf("bootstrap_expect = %d", len(p.trial.servers))
	}
	file := filepath.Join(p.dir, "agent.hcl")
	text := fmt.Sprintf(`
node_name = %q
server = %v
%s
bind_addr = %q
data_dir = %q
addresses { http = "unix://%s" }
ports { dns = -1 serf_wan = -1 }
retry_join = [%s]
retry_interval = "500ms"
%s
`, p.name, p.server, expect, p.at, filepath.Join(p.dir, "data"), filepath.Join(p.dir, "http"), p.trial.hints, chaosSettings)
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.command = exec.Command("ip", "netns", "exec", p.port.space, p.trial.binary, "agent", "-config-file="+file)
	p.command.Stdout, p.command.Stderr = p.log, p.log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	command, ended, log := p.command, make(chan struct{}), p.log
	p.ended = ended
	go func() {
		_ = command.Wait() // how it ended does not matter here
		_ = log.Close()
		close(ended)
	}()
}

// end kills the agent's process, and shows its log if the test failed.
func (p *island) end() {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Kill()
	<-p.ended
	if text, err := os.ReadFile(filepath.Join(p.dir, "log")); err == nil && p.trial.t.Failed() {
		p.trial.t.Logf("the end of the log of %s:\n%s", p.name, text[max(0, len(text)-8<<10):])
	}
	p.command = nil
}

// stop ends the agent in order.
func (p *island) stop() {
	t := p.trial.t
	t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(wholeLimit):
		t.Fatalf("%s did not stop", p.name)
	}
}

// get asks the agent and reads the answer into v.
func (p *island) get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s %s", path, response.Status, b)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// leads reports whether the agent says that it leads.
func (p *island) leads() bool {
	var self struct{ Stats map[string]map[string]any }
	return p.get(p.trial.t.Context(), "/v1/agent/self", &self) == nil && self.Stats["consul"]["leader"] == "true"
}

// within waits until check returns nil.
func (x *spaces) within(limit time.Duration, what string, check func() error) {
	x.t.Helper()
	(&trial{t: x.t}).within(limit, what, check)
}

// leader waits until a server leads that is none of some.
func (x *spaces) leader(not ...*island) *island {
	x.t.Helper()
	var leader *island
	x.within(progressLimit, "a server leads", func() error {
		for _, s := range x.servers {
			if !slices.Contains(not, s) && s.leads() {
				leader = s
				return nil
			}
		}
		return errors.New("none does")
	})
	return leader
}

// awaitProgress waits until each of some agents carries out operations.
func (x *spaces) awaitProgress(some ...*island) {
	x.t.Helper()
	begin := map[string]int{}
	for _, p := range some {
		begin[p.name] = x.load.Answered(p.name)
	}
	for _, p := range some {
		x.within(progressLimit, p.name+" carries out operations", func() error {
			if n := x.load.Answered(p.name) - begin[p.name]; n < fewOperations {
				return fmt.Errorf("there were %d", n)
			}
			return nil
		})
	}
}

// awaitWhole waits until all servers vote, and all agents answer and see each
// other.
func (x *spaces) awaitWhole() {
	x.t.Helper()
	began := time.Now()
	for _, p := range x.all() {
		// Members that failed are looked for each half minute.
		x.within(2*wholeLimit, p.name+" is a part of a whole cluster", func() error {
			var got struct {
				Servers []struct{ Voter, Leader bool }
			}
			if err := p.get(x.t.Context(), "/v1/operator/raft/configuration", &got); err != nil {
				return err
			}
			voters, leaders := 0, 0
			for _, s := range got.Servers {
				if s.Voter {
					voters++
				}
				if s.Leader {
					leaders++
				}
			}
			if voters != len(x.servers) || leaders != 1 {
				return fmt.Errorf("%d vote and %d lead", voters, leaders)
			}
			var members []struct {
				Name, Addr string
				Status     gossip.Status
			}
			if err := p.get(x.t.Context(), "/v1/agent/members", &members); err != nil {
				return err
			}
			for _, m := range members {
				if m.Status != gossip.Alive {
					return fmt.Errorf("%s is %s", m.Name, m.Status)
				}
			}
			if len(members) != len(x.all()) {
				return fmt.Errorf("there are %d members", len(members))
			}
			return nil
		})
	}
	x.t.Logf("whole after %s", time.Since(began).Round(10*time.Millisecond))
}

// run does one thing after the other, and lets the cluster heal each time.
func (x *spaces) run(name string, do func()) {
	x.t.Helper()
	if x.t.Failed() {
		return
	}
	began := time.Now()
	do()
	timer := time.NewTimer(faultTime)
	<-timer.C
	x.fabric.heal()
	x.awaitWhole()
	x.awaitProgress(x.all()...)
	x.load.Pause()
	err := x.load.SameState(x.t.Context())
	x.load.Resume()
	if err != nil {
		x.t.Error(err)
	}
	x.t.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
}

// finish checks all that the clients saw.
func (x *spaces) finish() {
	x.t.Helper()
	x.load.Stop()
	if err := x.load.Finish(); err != nil {
		x.t.Error(err)
	}
	x.t.Log(x.load.History.Summary())
}

// cutOff cuts some agents off from all others.
func (x *spaces) cutOff(some ...*island) (others []*island) {
	others = slices.DeleteFunc(x.all(), func(p *island) bool { return slices.Contains(some, p) })
	x.fabric.part(islandNames(some), islandNames(others))
	return others
}

func islandNames(some []*island) []string {
	var out []string
	for _, p := range some {
		out = append(out, p.name)
	}
	return out
}

func (x *spaces) follower() *island {
	leader := x.leader()
	for _, s := range x.servers {
		if s != leader {
			return s
		}
	}
	return nil
}

// What is done to three servers within one process is done to processes too; see
// TestChaosThreeServers, TestChaosBadNetwork and TestChaosServersSwap.
func TestNetnsThreeServers(t *testing.T) {
	x := newSpaces(t, 3, 1)
	x.run("the leader is cut off", func() {
		old := x.leader()
		others := x.cutOff(old)
		x.leader(old)
		x.awaitProgress(others...)
		if old.leads() {
			t.Errorf("%s leads although it is cut off", old.name)
		}
	})
	for _, way := range []struct {
		name          string
		leader, sends bool
	}{{"nobody hears the leader", true, true}, {"the leader hears nobody", true, false}, {"nobody hears a follower", false, true}, {"a follower hears nobody", false, false}} {
		x.run(way.name, func() {
			p := x.follower()
			if way.leader {
				p = x.leader()
			}
			others := slices.DeleteFunc(x.all(), func(o *island) bool { return o == p })
			for _, o := range others {
				if way.sends {
					x.fabric.cut(p.name, o.name)
				} else {
					x.fabric.cut(o.name, p.name)
				}
			}
			if way.leader {
				x.leader(p)
			}
			x.awaitProgress(others...)
		})
	}
	x.run("a third of all packets is lost", func() {
		x.fabric.set(0.3, 0)
		x.awaitProgress(x.all()...)
	})
	x.run("everything is late", func() {
		x.fabric.set(0, 200*time.Millisecond)
		x.awaitProgress(x.all()...)
	})
	x.run("two servers exchange their addresses, and the third has a new one", func() {
		for _, s := range x.servers {
			s.stop()
			x.fabric.move(t, s.port, netip.Addr{})
		}
		x.servers[0].at, x.servers[1].at, x.servers[2].at = x.servers[1].at, x.servers[0].at, addressOf(100)
		for _, s := range x.servers {
			x.fabric.move(t, s.port, s.at)
			s.start()
		}
	})
	x.finish()
}

// A minority of five is cut off; see TestChaosFiveServers.
func TestNetnsFiveServers(t *testing.T) {
	x := newSpaces(t, 5, 1)
	x.run("a minority with the leader and the client agent", func() {
		leader := x.leader()
		other := x.follower()
		others := x.cutOff(leader, other, x.clients[0])
		x.leader(leader, other)
		x.awaitProgress(others...)
	})
	x.run("a minority without the leader", func() {
		leader := x.leader()
		followers := slices.DeleteFunc(slices.Clone(x.servers), func(p *island) bool { return p == leader })
		x.awaitProgress(x.cutOff(followers[0], followers[1])...)
	})
	x.finish()
}
