package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What the load chooses from. The sets are small and fixed, so that the agent
// holds about as much after a minute as after a day.
const (
	soakWorkers    = 8
	soakKeys       = 4000 // in folders of soakFolder
	soakFolder     = 100
	soakValue      = 1024 // bytes, the largest
	soakServices   = 40   // names
	soakInstances  = 120  // of the agent's own
	soakNodes      = 100  // that are not agents
	soakPolled     = 8    // checks that connect to the agent itself
	soakWaiters    = 64   // blocking queries at once
	soakPatience   = 4 * time.Second
	soakTimeout    = 20 * time.Second
	soakMaxAnswer  = 16 << 20
	soakMaxFailure = 20
)

// soakLoad asks an agent for all that it can do.
type soakLoad struct {
	process  *agentProcess
	base     string // URL of the agent
	dns      string // its address
	rate     int    // requests per second
	client   *http.Client
	requests map[string]*atomic.Uint64 // by what was asked; fixed from the start
	waiting  chan struct{}

	mu     sync.Mutex
	failed []string
}

// soakRequest is one kind of request and how often it is made.
type soakRequest struct {
	name   string
	weight int
	do     func(l *soakLoad, r *rand.Rand)
}

// soakRequests is the mix: mostly reads, and writes of every kind.
func soakRequests() []soakRequest {
	return []soakRequest{
		{"kv put", 20, (*soakLoad).putKey},
		{"kv get", 15, (*soakLoad).getKey},
		{"kv cas", 8, (*soakLoad).casKey},
		{"kv delete", 4, (*soakLoad).deleteKey},
		{"kv tree", 2, (*soakLoad).tree},
		{"txn", 3, (*soakLoad).transact},
		{"catalog write", 8, (*soakLoad).writeCatalog},
		{"agent write", 8, (*soakLoad).writeAgent},
		{"ttl update", 8, (*soakLoad).updateCheck},
		{"read", 16, (*soakLoad).read},
		{"dns", 20, (*soakLoad).lookUp},
	}
}

func newSoakLoad(t *testing.T, p *agentProcess, rate int) *soakLoad {
	t.Helper()
	l := &soakLoad{
		process:  p,
		base:     "http://" + p.settings.address(),
		dns:      fmt.Sprintf("127.0.0.1:%d", p.settings.ports.dns),
		rate:     max(rate, soakWorkers),
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: soakWorkers + soakWaiters}},
		requests: map[string]*atomic.Uint64{"wait": {}},
		waiting:  make(chan struct{}, soakWaiters),
	}
	for _, r := range soakRequests() {
		l.requests[r.name] = &atomic.Uint64{}
	}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// run makes requests for some time and returns when all have ended.
func (l *soakLoad) run(ctx context.Context, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var mix []soakRequest
	for _, r := range soakRequests() {
		mix = append(mix, slices.Repeat([]soakRequest{r}, r.weight)...)
	}
	var group sync.WaitGroup
	for range soakWorkers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			ticker := time.NewTicker(soakWorkers * time.Second / time.Duration(l.rate))
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				request := mix[random.IntN(len(mix))]
				request.do(l, random)
				l.requests[request.name].Add(1)
				if random.IntN(10) == 0 {
					l.wait(ctx, &group, random)
				}
			}
		})
	}
	group.Wait()
}

// rest takes away what the agent does by itself, and the connections.
func (l *soakLoad) rest(t *testing.T) {
	t.Helper()
	for i := range soakPolled {
		l.call("PUT", fmt.Sprintf("/v1/agent/check/deregister/polled-%d", i), "", 200, 404)
	}
	l.client.CloseIdleConnections()
}

// call makes a request and notes an answer that it may not get.
func (l *soakLoad) call(method, path, body string, want ...int) (index string) {
	ctx, cancel := context.WithTimeout(context.Background(), soakTimeout)
	defer cancel()
	status, index, text, err := l.do(ctx, method, path, body)
	if err != nil || !slices.Contains(want, status) {
		l.fail("%s %s: status %d %.200s %v", method, path, status, text, err)
	}
	return index
}

func (l *soakLoad) do(ctx context.Context, method, path, body string) (status int, index string, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, l.base+path, strings.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	response, err := l.client.Do(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	text, err = io.ReadAll(io.LimitReader(response.Body, soakMaxAnswer))
	return response.StatusCode, response.Header.Get("X-Consul-Index"), text, err
}

func (l *soakLoad) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) < soakMaxFailure {
		l.failed = append(l.failed, fmt.Sprintf(format, args...))
	}
}

func (l *soakLoad) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

// total is how many requests were made.
func (l *soakLoad) total() (n uint64) {
	for _, count := range l.requests {
		n += count.Load()
	}
	return n
}

// counts says how many requests of each kind were made.
func (l *soakLoad) counts() string {
	var parts []string
	for name, count := range l.requests {
		parts = append(parts, fmt.Sprintf("%s %d", name, count.Load()))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func soakFolderName(r *rand.Rand) string {
	return fmt.Sprintf("soak/%d/", r.IntN(soakKeys/soakFolder))
}

func soakKey(r *rand.Rand) string {
	return fmt.Sprintf("%skey-%d", soakFolderName(r), r.IntN(soakFolder))
}

func (l *soakLoad) putKey(r *rand.Rand) {
	l.call("PUT", "/v1/kv/"+soakKey(r), strings.Repeat("x", r.IntN(soakValue)), 200)
}

func (l *soakLoad) getKey(r *rand.Rand) {
	mode := []string{"", "?stale", "?consistent", "?raw"}[r.IntN(4)]
	l.call("GET", "/v1/kv/"+soakKey(r)+mode, "", 200, 404)
}

func (l *soakLoad) casKey(r *rand.Rand) {
	key := soakKey(r)
	index := "0"
	if r.IntN(2) == 0 {
		index = l.call("GET", "/v1/kv/"+key, "", 200, 404)
	}
	l.call("PUT", "/v1/kv/"+key+"?cas="+index, "exchanged", 200)
}

func (l *soakLoad) deleteKey(r *rand.Rand) { l.call("DELETE", "/v1/kv/"+soakKey(r), "", 200) }

func (l *soakLoad) tree(r *rand.Rand) {
	switch r.IntN(6) {
	case 0:
		l.call("DELETE", "/v1/kv/"+soakFolderName(r)+"?recurse", "", 200)
	case 1:
		l.call("GET", "/v1/kv/soak/?keys&separator=/", "", 200, 404)
	default:
		l.call("GET", "/v1/kv/"+soakFolderName(r)+"?recurse", "", 200, 404)
	}
}

func (l *soakLoad) transact(r *rand.Rand) {
	var operations []string
	for range 1 + r.IntN(8) {
		verb := []string{"set", "get-or-empty", "delete", "check-not-exists"}[min(r.IntN(12), 3)*r.IntN(2)]
		value := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("t", r.IntN(soakValue))))
		operations = append(operations, fmt.Sprintf(`{"KV":{"Verb":%q,"Key":%q,"Value":%q}}`, verb, soakKey(r), value))
	}
	l.call("PUT", "/v1/txn", "["+strings.Join(operations, ",")+"]", 200, 409)
}

func (l *soakLoad) writeCatalog(r *rand.Rand) {
	node, name := fmt.Sprintf("outer-%d", r.IntN(soakNodes)), fmt.Sprintf("soak-%d", r.IntN(soakServices))
	switch r.IntN(12) {
	case 0:
		l.call("PUT", "/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q}`, node), 200)
	case 1, 2, 3:
		l.call("PUT", "/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q,"ServiceID":%q}`, node, name), 200)
	case 4:
		l.call("PUT", "/v1/catalog/register", fmt.Sprintf(`{"Node":%q,"Address":"127.1.0.1","Check":{"CheckID":"alive","Status":"passing"}}`, node), 200)
	default:
		l.call("PUT", "/v1/catalog/register", fmt.Sprintf(
			`{"Node":%q,"Address":"127.1.0.%d","Service":{"ID":%q,"Service":%q,"Port":%d,"Tags":["a","v%d"]},"Check":{"CheckID":%q,"ServiceID":%q,"Status":%q,"Output":%q}}`,
			node, r.IntN(250)+1, name, name, r.IntN(60000)+1, r.IntN(3), "check-"+name, name, soakStatus(r), strings.Repeat("o", r.IntN(100))), 200)
	}
}

func soakStatus(r *rand.Rand) string {
	return []string{"passing", "passing", "warning", "critical"}[r.IntN(4)]
}

func (l *soakLoad) writeAgent(r *rand.Rand) {
	id := r.IntN(soakInstances)
	switch r.IntN(10) {
	case 0, 1, 2:
		l.call("PUT", fmt.Sprintf("/v1/agent/service/deregister/own-%d", id), "", 200, 404)
	case 3:
		l.call("PUT", fmt.Sprintf("/v1/agent/check/deregister/alone-%d", id), "", 200, 404)
	case 4:
		l.call("PUT", "/v1/agent/check/register", fmt.Sprintf(`{"ID":"alone-%d","Name":"alone","TTL":"15s"}`, id), 200)
	case 5:
		l.call("PUT", "/v1/agent/check/register", fmt.Sprintf(
			`{"ID":"polled-%d","Name":"polled","TCP":%q,"Interval":"1s","Timeout":"1s"}`, r.IntN(soakPolled), l.process.settings.address()), 200)
	default:
		l.call("PUT", "/v1/agent/service/register", fmt.Sprintf(
			`{"ID":"own-%d","Name":"soak-%d","Port":%d,"Tags":["own"],"Check":{"CheckID":"ttl-%d","TTL":"15s","Status":"passing"}}`,
			id, id%soakServices, r.IntN(60000)+1, id), 200)
	}
}

func (l *soakLoad) updateCheck(r *rand.Rand) {
	l.call("PUT", fmt.Sprintf("/v1/agent/check/update/ttl-%d", r.IntN(soakInstances)),
		fmt.Sprintf(`{"Status":%q,"Output":%q}`, soakStatus(r), strings.Repeat("u", r.IntN(200))), 200, 404)
}

// soakReads are what can be asked and waited for; %d is one of the services,
// nodes or folders.
var soakReads = []string{
	"/v1/health/service/soak-%d?passing", "/v1/health/service/soak-%d", "/v1/health/service/soak-%d?tag=own",
	"/v1/catalog/service/soak-%d", "/v1/catalog/services?n=%d", "/v1/catalog/nodes?n=%d", "/v1/catalog/node/outer-%d",
	"/v1/health/checks/soak-%d", "/v1/health/node/outer-%d", "/v1/health/state/critical?n=%d",
	"/v1/agent/services?n=%d", "/v1/agent/checks?n=%d", "/v1/kv/soak/%d/?recurse", "/v1/kv/soak/%d/key-7",
}

func soakRead(r *rand.Rand) string {
	return fmt.Sprintf(soakReads[r.IntN(len(soakReads))], r.IntN(soakServices))
}

func (l *soakLoad) read(r *rand.Rand) { l.call("GET", soakRead(r), "", 200, 404) }

// wait makes a blocking query beside the load, unless there are enough. Half of
// them are given up by the client before they end.
func (l *soakLoad) wait(ctx context.Context, group *sync.WaitGroup, r *rand.Rand) {
	select {
	case l.waiting <- struct{}{}:
	default:
		return
	}
	path, patience := soakRead(r), time.Duration(r.Int64N(int64(soakPatience)))
	limit := soakTimeout
	if r.IntN(2) == 0 {
		limit = patience
	}
	l.requests["wait"].Add(1)
	group.Go(func() {
		defer func() { <-l.waiting }()
		index := l.call("GET", path, "", 200, 404)
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		status, _, text, err := l.do(ctx, "GET", fmt.Sprintf("%s%sindex=%s&wait=%s", path, separator, index, patience), "")
		if ctx.Err() == nil && (err != nil || status != 200 && status != 404) {
			l.fail("blocking query %s: status %d %.200s %v", path, status, text, err)
		}
	})
}

// soakNames are what DNS is asked for.
var soakNames = []string{
	"soak-%d.service.consul.", "own.soak-%d.service.consul.", "outer-%d.node.consul.", "missing-%d.service.consul.",
	"_soak-%d._tcp.service.consul.", "%d.0.1.127.in-addr.arpa.", "soak-%d.service.dc1.consul.",
}

func (l *soakLoad) lookUp(r *rand.Rand) {
	question := new(dns.Msg)
	question.SetQuestion(fmt.Sprintf(soakNames[r.IntN(len(soakNames))], r.IntN(soakServices)),
		[]uint16{dns.TypeA, dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypePTR}[r.IntN(5)])
	client := &dns.Client{Timeout: soakTimeout}
	switch r.IntN(6) {
	case 0:
		client.Net = "tcp"
	case 1, 2:
		question.SetEdns0(4096, false)
	}
	reply, _, err := client.Exchange(question, l.dns)
	if err != nil || reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		l.fail("DNS %s: %v %v", question.Question[0].String(), reply, err)
	}
}
