package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-sd/muster/api"
	"github.com/muster-sd/muster/kv"
)

// The test of this file knows nothing of how indexes are kept. It makes random
// changes, looks at all rows and at the answer to every kind of read before and
// after each, and has a reader wait for every one of these reads. Then:
//
//   - a reader whose answer has become another one has been answered;
//   - no index of any read has fallen;
//   - a reader who was answered could be so: a row of those that its read is about
//     has changed.

// rows are all rows by what they are, as text with all their fields.
type rows map[row]string

// row names one row: a key, or a node, or an instance by its ID and service, or a
// check with the ID of the instance that it belongs to, if it does to one.
type row struct{ kind, node, id, service, of string }

const (
	rowKey      = "key"
	rowNode     = "node"
	rowInstance = "instance"
	rowCheck    = "check"
)

// watched is one kind of read, and which changes may answer one who waits for it.
type watched struct {
	target string
	// may reports whether a change of these rows may do so.
	may func(before, after rows, changed []row) bool
}

// model is the interface over a server in memory, with one waiting reader for
// each of many reads.
type model struct {
	t       *testing.T
	r       *rand.Rand
	b       *backend
	http    http.Handler
	readers []*reader
	now     rows
}

// reader waits for one read, over and over.
type reader struct {
	watched
	answer answer
	// raised is whether the index of a prefix of keys has risen since the answer
	// without news, as it does when deletions are forgotten, and when the root of a
	// deleted tree is deleted. Then anything near may be told once.
	raised bool
	next   chan answer // has the answer to the read that waits, once there is one
}

type answer struct {
	status int
	index  uint64
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %s at %d", a.status, a.body, a.index) }

// unmeasured counts no requests.
type unmeasured struct{ api.Telemetry }

func (unmeasured) Request(string, string, time.Duration) {}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	b := newLeader(t)
	// The other parts of the interface are not needed by these reads.
	h, err := api.New(api.Deps{Config: api.Config{Datacenter: "dc1", NodeName: "n0"}, Keys: b, Catalog: b, Health: b, Txn: b,
		Status: struct{ api.Status }{}, Local: struct{ api.Local }{}, Agent: struct{ api.Agent }{},
		Telemetry: unmeasured{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), b: b, http: h}
	t.Cleanup(h.Drain)
	for _, w := range reads() {
		r := &reader{watched: w}
		r.answer = m.ask(w.target)
		m.wait(r)
		m.readers = append(m.readers, r)
	}
	m.now = m.look()
	return m
}

// do sends one request and returns its answer.
func (m *model) do(method, target, body string) answer {
	u, err := url.Parse(target)
	if err != nil {
		m.t.Fatal(err)
	}
	r := httptest.NewRequest(method, u.String(), strings.NewReader(body))
	w := httptest.NewRecorder()
	m.http.ServeHTTP(w, r)
	index, _ := strconv.ParseUint(w.Header().Get("X-Consul-Index"), 10, 64)
	return answer{w.Code, index, w.Body.String()}
}

func (m *model) ask(target string) answer {
	a := m.do(http.MethodGet, target, "")
	if a.status != 200 && a.status != 404 || a.index == 0 {
		m.t.Fatalf("%s: %v", target, a)
	}
	return a
}

// wait lets a reader wait for the next answer after the one that it has.
func (m *model) wait(r *reader) {
	r.next = make(chan answer, 1)
	next, index := r.next, r.answer.index
	separator := "?"
	if strings.Contains(r.target, "?") {
		separator = "&"
	}
	target := fmt.Sprintf("%s%sindex=%d&wait=10m", r.target, separator, index)
	go func() { next <- m.do(http.MethodGet, target, "") }()
}

// look reads all rows.
func (m *model) look() rows {
	out := rows{}
	list := func(target string) (parts []json.RawMessage) {
		a := m.ask(target)
		if a.status == 404 {
			return nil
		}
		if err := json.Unmarshal([]byte(a.body), &parts); err != nil {
			m.t.Fatalf("%s: %v: %s", target, err, a.body)
		}
		return parts
	}
	for _, text := range list("/v1/kv/?recurse") {
		var e struct{ Key string }
		m.parse(text, &e)
		out[row{kind: rowKey, id: e.Key}] = string(text)
	}
	for _, text := range list("/v1/catalog/nodes") {
		var n struct{ Node string }
		m.parse(text, &n)
		out[row{kind: rowNode, node: n.Node}] = string(text)
		var detail struct{ Services []json.RawMessage }
		m.parse([]byte(m.ask("/v1/catalog/node-services/"+n.Node).body), &detail)
		for _, text := range detail.Services {
			var s struct{ ID, Service string }
			m.parse(text, &s)
			out[row{kind: rowInstance, node: n.Node, id: s.ID, service: s.Service}] = string(text)
		}
	}
	for _, text := range list("/v1/health/state/any") {
		var c struct{ Node, CheckID, ServiceID string }
		m.parse(text, &c)
		out[row{kind: rowCheck, node: c.Node, id: c.CheckID, of: c.ServiceID}] = string(text)
	}
	return out
}

func (m *model) parse(text []byte, v any) {
	if err := json.Unmarshal(text, v); err != nil {
		m.t.Fatalf("%v: %s", err, text)
	}
}

// difference are the rows that are not the same in both.
func difference(before, after rows) []row {
	var out []row
	for at, text := range before {
		if after[at] != text {
			out = append(out, at)
		}
	}
	for at := range after {
		if _, ok := before[at]; !ok {
			out = append(out, at)
		}
	}
	return out
}

// step makes one change and compares everything before and after it.
func (m *model) step(number int) {
	m.t.Helper()
	synctest.Wait()
	said := m.change()
	synctest.Wait()
	before := m.now
	m.now = m.look()
	changed := difference(before, m.now)
	for _, r := range m.readers {
		is := m.ask(r.target)
		about := fmt.Sprintf("step %d, %s, which changed %v: %s\n was %v\n is  %v", number, said, changed, r.target, r.answer, is)
		if is.index < r.answer.index {
			m.t.Fatalf("%s\nthe index fell", about)
		}
		select {
		case got := <-r.next:
			switch {
			case got != is:
				m.t.Fatalf("%s\nthe waiting reader was told %v", about, got)
			case got.index <= r.answer.index:
				m.t.Fatalf("%s\nthe waiting reader was answered without news", about)
			case len(changed) == 0 || !r.may(before, m.now, changed) && !r.raised:
				m.t.Fatalf("%s\nthe waiting reader was answered, and nothing that it reads has changed", about)
			}
			r.answer, r.raised = got, false
			m.wait(r)
		default:
			if is.body != r.answer.body || is.status != r.answer.status {
				m.t.Fatalf("%s\nthe reader still waits", about)
			}
			prefix := strings.Contains(r.target, "?recurse") || strings.Contains(r.target, "?keys")
			r.raised = prefix && is.index > r.answer.index
		}
	}
}

func (m *model) pick(list ...string) string { return list[m.r.IntN(len(list))] }

// change sends one random write, and returns what it was.
func (m *model) change() string {
	method, target, body := http.MethodPut, "", ""
	key := m.pick("a", "a/b", "a/b/c", "a/c", "b", "c/d")
	node, id := m.pick("n0", "n1", "n2"), m.pick("x", "y")
	switch m.r.IntN(16) {
	case 0, 1, 2:
		target, body = "/v1/kv/"+key+m.pick("", "", "?flags=1", "?cas=0"), m.pick("", "1", "2")
	case 3:
		method, target = http.MethodDelete, "/v1/kv/"+key
	case 4:
		method, target = http.MethodDelete, "/v1/kv/"+m.pick("a", "a/", "a/b", "c", "none", "")+"?recurse"
	case 5:
		if m.r.IntN(3) == 0 {
			return m.reap()
		}
		target = "/v1/txn"
		body = fmt.Sprintf(`[{"KV":{"Verb":"set","Key":%q,"Value":"MQ=="}},{"KV":{"Verb":"delete","Key":%q}}]`, m.pick("a/b", "a/c", "c/d"), m.pick("a", "b"))
	case 6:
		target, body = "/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q,"ServiceID":%q}`, node, id)
	case 7:
		target, body = "/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q,"CheckID":%q}`, node, m.pick("host", "of-x", "of-y"))
	case 8:
		if m.r.IntN(2) == 0 {
			target, body = "/v1/catalog/deregister", fmt.Sprintf(`{"Node":%q}`, node)
			break
		}
		fallthrough
	default:
		target, body = "/v1/catalog/register", m.registration(node, id)
	}
	a := m.do(method, target, body)
	if a.status != 200 && !(a.status == 500 && strings.Contains(a.body, "Unknown service ID")) {
		m.t.Fatalf("%s %s %s: %v", method, target, body, a)
	}
	return strings.TrimSpace(method + " " + target + " " + body)
}

// registration is one of a node, and perhaps of an instance and a check.
func (m *model) registration(node, id string) string {
	parts := []string{fmt.Sprintf(`"Node":%q,"Address":"10.0.0.%d","NodeMeta":{"rack":"%d"},"SkipNodeUpdate":%t`, node, m.r.IntN(2), m.r.IntN(2), m.r.IntN(2) == 0)}
	if m.r.IntN(2) == 0 {
		parts = append(parts, fmt.Sprintf(`"Service":{"ID":%q,"Service":%q,"Tags":[%q],"Port":%d}`, id, m.pick("s0", "s1", "S1", "s2"), m.pick("t", "u"), m.r.IntN(2)))
	}
	switch m.r.IntN(4) {
	case 0:
		parts = append(parts, fmt.Sprintf(`"Check":{"CheckID":"host","Status":%q,"Output":%q}`, m.pick("passing", "critical"), m.pick("", "o")))
	case 1, 2:
		parts = append(parts, fmt.Sprintf(`"Check":{"CheckID":"of-%s","ServiceID":%q,"Status":%q}`, id, id, m.pick("passing", "warning", "critical")))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// reap forgets the deletions of keys, or some of them.
func (m *model) reap() string {
	index := m.b.machine.View().Index - m.r.Uint64N(3)
	if _, err := m.b.apply(m.t.Context(), &kv.Reap{Index: index}); err != nil {
		m.t.Fatal(err)
	}
	return fmt.Sprintf("forget deletions up to %d", index)
}

// reads are the reads that somebody waits for.
func reads() []watched {
	var out []watched
	add := func(may func(before, after rows, changed []row) bool, targets ...string) {
		for _, target := range targets {
			out = append(out, watched{"/v1/" + target, may})
		}
	}
	for _, key := range []string{"a", "a/b", "none"} {
		add(func(_, _ rows, changed []row) bool { return slices.Contains(changed, row{kind: rowKey, id: key}) },
			"kv/"+key, "kv/"+key+"?raw")
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "c", "none"} {
		add(func(before, after rows, changed []row) bool {
			inside := func(r row) bool { return r.kind == rowKey && strings.HasPrefix(r.id, prefix) }
			// A deletion at the root of a tree that was deleted before looks like
			// another one of the whole tree.
			root := func(r row) bool { return r.kind == rowKey && strings.HasPrefix(prefix, r.id) && after[r] == "" }
			// Where there is nothing, any change of a key may be told.
			return slices.ContainsFunc(changed, inside) || slices.ContainsFunc(changed, root) ||
				!before.any(inside) && slices.ContainsFunc(changed, ofKind(rowKey))
		}, "kv/"+prefix+"?recurse", "kv/"+prefix+"?keys", "kv/"+prefix+"?keys&separator=/")
	}
	add(func(_, _ rows, changed []row) bool { return slices.ContainsFunc(changed, ofKind(rowNode, rowInstance)) },
		"catalog/nodes", "catalog/nodes?node-meta=rack:1", "catalog/nodes?filter=Meta.rack==0")
	add(func(_, _ rows, changed []row) bool { return slices.ContainsFunc(changed, ofKind(rowInstance)) },
		"catalog/services")
	add(func(_, _ rows, changed []row) bool { return slices.ContainsFunc(changed, ofKind(rowNode, rowInstance)) },
		"catalog/services?node-meta=rack:1", "catalog/services?filter=NodeMeta.rack==1", "catalog/services?filter=ServicePort==1")
	for _, node := range []string{"n0", "N1", "none"} {
		add(func(before, after rows, changed []row) bool {
			is := func(r row) bool { return r.kind != rowCheck && strings.EqualFold(r.node, node) }
			return slices.ContainsFunc(changed, is) || !(before.any(is) && after.any(is)) && slices.ContainsFunc(changed, ofKind(rowNode, rowInstance))
		}, "catalog/node/"+node, "catalog/node-services/"+node, "catalog/node/"+node+"?filter=Port==1")
		add(func(_, _ rows, changed []row) bool { return slices.ContainsFunc(changed, ofKind(rowCheck)) }, "health/node/"+node)
	}
	for _, status := range []string{"any", "critical", "passing"} {
		add(func(_, _ rows, changed []row) bool { return slices.ContainsFunc(changed, ofKind(rowCheck)) },
			"health/state/"+status)
	}
	// The index of nodes, which this needs too, moves with what stands on them.
	add(func(_, _ rows, changed []row) bool {
		return slices.ContainsFunc(changed, ofKind(rowCheck, rowNode, rowInstance))
	},
		"health/state/any?node-meta=rack:1")
	for _, service := range []string{"s0", "s1", "s2", "none"} {
		add(func(before, after rows, changed []row) bool { return mayTell(service, before, after, changed) },
			"catalog/service/"+service, "catalog/service/"+service+"?tag=t", "catalog/service/"+service+"?cached",
			"health/service/"+service, "health/service/"+service+"?passing", "health/service/"+service+"?node-meta=rack:1",
			"health/checks/"+service, "health/checks/"+service+"?node-meta=rack:0")
	}
	return out
}

// mayTell reports whether a change may be told to those who wait for a service: a
// change of an instance of it, of a check of one, of a node that it stands on, or of
// a check of such a node. While there is none, any instance that comes or goes may.
func mayTell(service string, before, after rows, changed []row) bool {
	instance := func(r row) bool { return r.kind == rowInstance && strings.EqualFold(r.service, service) }
	if !before.any(instance) || !after.any(instance) {
		return slices.ContainsFunc(changed, ofKind(rowInstance, rowNode))
	}
	return slices.ContainsFunc(changed, func(r row) bool {
		concerns := func(i row) bool {
			switch {
			case !instance(i) || i.node != r.node || r.kind == rowKey:
				return false
			case r.kind == rowInstance:
				return i == r
			}
			return r.of == "" || r.of == i.id
		}
		return before.any(concerns) || after.any(concerns)
	})
}

func ofKind(kinds ...string) func(row) bool {
	return func(r row) bool { return slices.Contains(kinds, r.kind) }
}

func (r rows) any(is func(row) bool) bool {
	for at := range r {
		if is(at) {
			return true
		}
	}
	return false
}

func TestReadersAreToldWhatChangesAndNothingElse(t *testing.T) {
	seeds, steps := 3, 250
	if testing.Short() {
		seeds, steps = 1, 150
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, uint64(seed))
				for i := range steps {
					m.step(i)
				}
			})
		})
	}
}
