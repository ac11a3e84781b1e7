package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// Kinds of writers, which are prefixes of the names that they write, too.
const (
	kindKey    = "keys"    // of the key-value store: put, overwritten, deleted
	kindChain  = "chains"  // steps of check-and-set
	kindLocal  = "local"   // instances registered at the agent
	kindRemote = "remote"  // nodes with an instance, registered in the catalog
	metaName   = "version" // of the metadata that holds the version
)

// writer writes, and knows what must be there.
type writer interface {
	name() string
	kind() string
	// write makes one write. If it fails, the write may have happened or not.
	write(client *api.Client) error
	// check holds what the agent has against what was written. It is called
	// while nobody writes.
	check(t *testing.T, has *holdings)
	acknowledged() int
}

// newWriters are those of one test.
func newWriters(seed uint64) []writer {
	var all []writer
	add := func(kind string, number int, put func(*api.Client, string, int) error) {
		all = append(all, &versions{
			prefix: kind, number: number, put: put, fates: map[string]*fate{},
			random: rand.New(rand.NewPCG(seed, uint64(len(all)+1))),
		})
	}
	for number := range 4 {
		add(kindKey, number, putKey)
	}
	for number := range 3 {
		add(kindLocal, number, putLocal)
		add(kindRemote, number, putRemote)
	}
	for number := range 2 {
		c := &chain{key: fmt.Sprintf("%s/%d", kindChain, number), before: map[string]string{}, acked: map[string]bool{}}
		all = append(all, &link{chain: c, number: 0}, &link{chain: c, number: 1})
	}
	return all
}

// fate is what is known of a name: the version that was acknowledged last, and
// those that were sent since and may be there as well. Version 0 is that there
// is nothing.
type fate struct {
	known int
	maybe []int
}

// versions writes names of its own, each in one version after the other.
type versions struct {
	prefix string
	number int
	random *rand.Rand
	put    func(client *api.Client, name string, version int) error
	names  []string
	fates  map[string]*fate
	last   int // the newest version
	count  int
}

func (v *versions) name() string      { return fmt.Sprintf("%s/%d", v.prefix, v.number) }
func (v *versions) kind() string      { return v.prefix }
func (v *versions) acknowledged() int { return v.count }

// write makes a new name most of the time, and else changes or removes one.
func (v *versions) write(client *api.Client) error {
	v.last++
	version, name := v.last, fmt.Sprintf("%s/%d/%d", v.prefix, v.number, len(v.names))
	switch chance := v.random.IntN(10); {
	case chance < 3 && len(v.names) > 0:
		name = v.names[v.random.IntN(len(v.names))]
	case chance == 3 && len(v.names) > 0:
		name = v.names[v.random.IntN(len(v.names))]
		if v.fates[name].known > 0 {
			version = 0
		}
	}
	f := v.fates[name]
	if f == nil {
		f = &fate{}
		v.names, v.fates[name] = append(v.names, name), f
	}
	f.maybe = append(f.maybe, version)
	if err := v.put(client, name, version); err != nil {
		return err
	}
	f.known, f.maybe = version, nil
	v.count++
	return nil
}

// check finds each name in a version that it may have, and takes that for known
// from here on.
func (v *versions) check(t *testing.T, has *holdings) {
	t.Helper()
	for name, f := range v.fates {
		found := has.versions[name]
		if found != f.known && !slices.Contains(f.maybe, found) {
			t.Errorf("%s is there in version %d, but %d was acknowledged and only %v were sent after it", name, found, f.known, f.maybe)
		}
		f.known, f.maybe = found, nil
	}
}

// content is the value of a key in a version: unique, and now and then large.
func content(name string, version int) string {
	sum := fnv.New32a()
	fmt.Fprintf(sum, "%s@%d", name, version)
	length := sum.Sum32() % 200
	if sum.Sum32()%101 == 0 {
		length = 30_000
	}
	return fmt.Sprintf("%d:%s:%s", version, name, strings.Repeat("x", int(length)))
}

func putKey(client *api.Client, name string, version int) error {
	if version == 0 {
		_, err := client.KV().Delete(name, nil)
		return err
	}
	_, err := client.KV().Put(&api.KVPair{Key: name, Value: []byte(content(name, version))}, nil)
	return err
}

// Each part of a registration says which version it is of.
func putLocal(client *api.Client, name string, version int) error {
	if version == 0 {
		return client.Agent().ServiceDeregister(name)
	}
	text := strconv.Itoa(version)
	return client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: name, Name: kindLocal, Port: 1 + version%60000, Meta: map[string]string{metaName: text},
		Checks: api.AgentServiceChecks{
			{CheckID: name + "/a", Name: "a", TTL: "10m", Notes: text},
			{CheckID: name + "/b", Name: "b", TTL: "10m", Notes: text},
		},
	})
}

func putRemote(client *api.Client, name string, version int) error {
	if version == 0 {
		_, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: name}, nil)
		return err
	}
	text := strconv.Itoa(version)
	_, err := client.Catalog().Register(&api.CatalogRegistration{
		Node: name, Address: "192.0.2.1", NodeMeta: map[string]string{metaName: text},
		Service: &api.AgentService{ID: name, Service: kindRemote, Port: 1 + version%60000, Meta: map[string]string{metaName: text}},
		Checks: api.HealthChecks{
			{Node: name, CheckID: name + "/a", Name: "a", ServiceID: name, Status: api.HealthPassing, Notes: text},
			{Node: name, CheckID: name + "/b", Name: "b", ServiceID: name, Status: api.HealthPassing, Notes: text},
		},
	}, nil)
	return err
}

// chain is a key that two writers change step by step, each by check-and-set on
// the value that it saw. So each value has one before it.
type chain struct {
	key string

	mu     sync.Mutex
	before map[string]string // of each value that was ever sent
	acked  map[string]bool
}

// link is one writer of a chain.
type link struct {
	chain  *chain
	number int
	tries  int
	count  int
}

func (l *link) name() string      { return fmt.Sprintf("%s by %d", l.chain.key, l.number) }
func (l *link) kind() string      { return kindChain }
func (l *link) acknowledged() int { return l.count }

func (l *link) write(client *api.Client) error {
	pair, _, err := client.KV().Get(l.chain.key, nil)
	if err != nil {
		return err
	}
	l.tries++
	before, next := "", &api.KVPair{Key: l.chain.key}
	if pair != nil {
		before, next.ModifyIndex = string(pair.Value), pair.ModifyIndex
	}
	value := fmt.Sprintf("%d.%d", l.number, l.tries)
	next.Value = []byte(value)
	l.chain.mu.Lock()
	l.chain.before[value] = before
	l.chain.mu.Unlock()
	done, _, err := client.KV().CAS(next, nil)
	if err == nil && done {
		l.chain.mu.Lock()
		l.chain.acked[value] = true
		l.chain.mu.Unlock()
		l.count++
	}
	return err
}

// check walks from the value that is there back to the first one: every step
// that was acknowledged must be on the way.
func (l *link) check(t *testing.T, has *holdings) {
	t.Helper()
	way := map[string]bool{}
	for value := has.chains[l.chain.key]; value != ""; value = l.chain.before[value] {
		if _, sent := l.chain.before[value]; !sent || way[value] {
			t.Errorf("%s: the step %q was never made, or twice", l.chain.key, value)
			return
		}
		way[value] = true
	}
	for value := range l.chain.acked {
		if !way[value] {
			t.Errorf("%s: the step %s was acknowledged, but does not lead to what is there, %q", l.chain.key, value, has.chains[l.chain.key])
		}
	}
}

// writersClient is a client for all writers of one life of the agent, which
// counts the writes that are under way.
func writersClient(t *testing.T, s *settings, inFlight *atomic.Int64) *api.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := api.NewClient(&api.Config{
		Address:    s.address(),
		HttpClient: &http.Client{Transport: countWrites{transport, inFlight}, Timeout: settleLimit},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// countWrites counts the requests that write from their beginning to the
// beginning of their answer.
type countWrites struct {
	http.RoundTripper
	inFlight *atomic.Int64
}

// RoundTrip passes a request on.
func (c countWrites) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		c.inFlight.Add(1)
		defer c.inFlight.Add(-1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// holdings is all that an agent has of what the writers wrote.
type holdings struct {
	index    uint64
	versions map[string]int // of keys, of local instances, of remote nodes
	chains   map[string]string
}

// readAll reads everything, and fails the test for what is there by half.
func readAll(t *testing.T, p *agentProcess) *holdings {
	t.Helper()
	has := &holdings{versions: map[string]int{}, chains: map[string]string{}}
	options := &api.QueryOptions{RequireConsistent: true}
	pairs, meta, err := p.client.KV().List("", options)
	if err != nil {
		t.Fatal(err)
	}
	has.index = meta.LastIndex
	for _, pair := range pairs {
		if strings.HasPrefix(pair.Key, kindChain+"/") {
			has.chains[pair.Key] = string(pair.Value)
			continue
		}
		version := versionOf(t, pair.Key, strings.Split(string(pair.Value), ":")[0])
		if string(pair.Value) != content(pair.Key, version) {
			t.Errorf("%s has a value of %d bytes, %.80q, that nobody wrote", pair.Key, len(pair.Value), pair.Value)
		}
		has.versions[pair.Key] = version
	}
	for name, version := range localVersions(t, p) {
		has.versions[name] = version
	}
	for name, version := range catalogVersions(t, p, kindRemote) {
		has.versions[name] = version
	}
	has.checkLonely(t, p)
	return has
}

func versionOf(t *testing.T, name, text string) int {
	t.Helper()
	version, err := strconv.Atoi(text)
	if err != nil || version <= 0 {
		t.Errorf("%s has the version %q, which is none", name, text)
	}
	return version
}

// localVersions are the instances that the agent itself has.
func localVersions(t *testing.T, p *agentProcess) map[string]int {
	t.Helper()
	services, err := p.client.Agent().Services()
	if err != nil {
		t.Fatal(err)
	}
	checks, err := p.client.Agent().Checks()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for name, service := range services {
		found[name] = versionOf(t, name, service.Meta[metaName])
		for _, suffix := range []string{"/a", "/b"} {
			switch c := checks[name+suffix]; {
			case c == nil:
				t.Errorf("the agent has %s in version %d without its check %s", name, found[name], suffix)
			case c.Notes != service.Meta[metaName]:
				t.Errorf("the agent has %s in version %d with its check %s in version %s", name, found[name], suffix, c.Notes)
			}
		}
	}
	if len(checks) != 2*len(services) {
		t.Errorf("the agent has %d checks, want two for each of %d services", len(checks), len(services))
	}
	return found
}

// catalogVersions are the instances of a service in the catalog, whole ones.
func catalogVersions(t *testing.T, p *agentProcess, service string) map[string]int {
	t.Helper()
	found, err := instanceVersions(p, service)
	if err != nil {
		t.Error(err)
	}
	return found
}

func instanceVersions(p *agentProcess, service string) (map[string]int, error) {
	entries, _, err := p.client.Health().Service(service, "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, e := range entries {
		version := e.Service.Meta[metaName]
		if found[e.Service.ID], err = strconv.Atoi(version); err != nil {
			return found, fmt.Errorf("%s in the catalog: %w", e.Service.ID, err)
		}
		parts := 0
		for _, c := range e.Checks {
			if c.ServiceID == "" {
				continue // the node's own
			}
			parts++
			if c.Notes != version {
				return found, fmt.Errorf("%s is in the catalog in version %s with its check %s in version %s", e.Service.ID, version, c.CheckID, c.Notes)
			}
		}
		if parts != 2 {
			return found, fmt.Errorf("%s is in the catalog with %d of its 2 checks", e.Service.ID, parts)
		}
		if service == kindRemote && e.Node.Meta[metaName] != version {
			return found, fmt.Errorf("%s is in the catalog in version %s, and its node in version %s", e.Service.ID, version, e.Node.Meta[metaName])
		}
	}
	return found, nil
}

// checkLonely finds nodes and checks in the catalog without an instance.
func (h *holdings) checkLonely(t *testing.T, p *agentProcess) {
	t.Helper()
	nodes, _, err := p.client.Catalog().Nodes(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Node, kindRemote) && h.versions[n.Node] == 0 {
			t.Errorf("the node %s is in the catalog without its instance", n.Node)
		}
	}
	checks, _, err := p.client.Health().State(api.HealthAny, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.ServiceName == kindRemote && h.versions[c.ServiceID] == 0 {
			t.Errorf("the check %s is in the catalog without its instance", c.CheckID)
		}
	}
}

// checkStrangers finds what nobody wrote.
func (h *holdings) checkStrangers(t *testing.T, writers []writer) {
	t.Helper()
	written := map[string]bool{}
	for _, w := range writers {
		if v, ok := w.(*versions); ok {
			for _, name := range v.names {
				written[name] = true
			}
		}
	}
	for name := range h.versions {
		if !written[name] {
			t.Errorf("%s is there, but was never written", name)
		}
	}
}

// checkSynced waits until the catalog has the agent's own instances as the agent
// has them, and no others.
func checkSynced(t *testing.T, p *agentProcess) {
	t.Helper()
	want := localVersions(t, p)
	begin := time.Now()
	eventually(t, settleLimit, "the catalog has the agent's instances", func(context.Context) error {
		found, err := instanceVersions(p, kindLocal)
		if err != nil {
			return err
		}
		for name, version := range want {
			if found[name] != version {
				return fmt.Errorf("the catalog has %s in version %d after %s, want %d", name, found[name], time.Since(begin), version)
			}
		}
		if len(found) != len(want) {
			return fmt.Errorf("the catalog has %d instances, the agent %d", len(found), len(want))
		}
		return nil
	})
}
