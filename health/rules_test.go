package health_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

func register(checks ...health.Check) *health.Register {
	return &health.Register{Registration: catalog.Registration{Node: catalog.Node{Name: "a", Address: "10.0.0.1"}}, Checks: checks}
}

func TestRefusedRegistrations(t *testing.T) {
	for _, c := range []struct {
		name string
		r    *health.Register
		want string // empty: accepted
	}{
		{"no checks", register(), ""},
		{"a bad node", &health.Register{}, "Must provide node"},
		{"a check", register(health.Check{ID: "c"}), ""},
		{"a check of the node", register(health.Check{Node: "a", ID: "c"}), ""},
		{"a check of the node in another case", register(health.Check{Node: "A", ID: "c"}), ""},
		{"a check of another node", register(health.Check{ID: "b"}, health.Check{Node: "o", ID: "c"}), "Node 'o' for check 'c' doesn't match register request node 'a'"},
		{"a check of another node, by its name", register(health.Check{Node: "o", Name: "c"}), "Node 'o' for check 'c' doesn't match register request node 'a'"},
		{"any status", register(health.Check{ID: "c", Status: "so-so"}), ""},
		{"an ID with a NUL", register(health.Check{ID: "c\x00"}), `Invalid check ID "c\x00": it must not contain a NUL byte`},
		{"a name with a NUL for an ID", register(health.Check{Name: "c\x00"}), `Invalid check ID "c\x00": it must not contain a NUL byte`},
		{"a name with a NUL beside an ID", register(health.Check{ID: "c", Name: "c\x00"}), ""},
		{"an instance with a NUL", register(health.Check{ID: "c", ServiceID: "\x00"}), `Invalid service ID "\x00": it must not contain a NUL byte`},
	} {
		err := c.r.Normalize()
		got := ""
		if err != nil {
			got = err.Error()
			if mvcc.CodeOf(err) != mvcc.Invalid {
				t.Errorf("%s: the error's code is %d", c.name, mvcc.CodeOf(err))
			}
		}
		if got != c.want {
			t.Errorf("%s: the error is %q, want %q", c.name, got, c.want)
		}
	}
}

func TestNormalizeFillsIn(t *testing.T) {
	definition := health.Definition{TCP: "localhost:80"}
	r := register(health.Check{Name: "up", Definition: definition}, health.Check{ID: "c", Name: "up", Status: health.Passing, Type: "udp", Definition: definition, ServiceTags: []string{"x"}})
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	want := []health.Check{
		{Node: "a", ID: "up", Name: "up", Status: health.Critical, Type: "tcp", Definition: definition, ServiceTags: []string{}},
		{Node: "a", ID: "c", Name: "up", Status: health.Passing, Type: "udp", Definition: definition, ServiceTags: []string{"x"}},
	}
	if !reflect.DeepEqual(r.Checks, want) {
		t.Errorf("the checks are %+v, want %+v", r.Checks, want)
	}
	if err := r.Normalize(); err != nil || !reflect.DeepEqual(r.Checks, want) {
		t.Errorf("once more made %+v of them, error %v", r.Checks, err)
	}
}

func TestKind(t *testing.T) {
	for want, d := range map[string]health.Definition{
		"":           {Timeout: time.Second, Interval: time.Second, Method: "GET", Shell: "sh"},
		"http":       {HTTP: "http://localhost"},
		"tcp":        {TCP: "localhost:80"},
		"udp":        {UDP: "localhost:80"},
		"grpc":       {GRPC: "localhost:80"},
		"ttl":        {TTL: time.Second},
		"alias":      {AliasNode: "n1"},
		"docker":     {DockerContainerID: "c", ScriptArgs: []string{"true"}},
		"script":     {ScriptArgs: []string{"true"}},
		"h2ping":     {H2PING: "localhost:80"},
		"os_service": {OSService: "sshd"},
	} {
		if got := d.Kind(); got != want {
			t.Errorf("the kind of %+v is %q, want %q", d, got, want)
		}
	}
	if got := (&health.Definition{AliasService: "web"}).Kind(); got != "alias" {
		t.Errorf("the kind of an alias of a service is %q", got)
	}
}

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		of   []health.Status
		want health.Status
	}{
		{nil, health.Passing},
		{[]health.Status{health.Passing, health.Passing}, health.Passing},
		{[]health.Status{health.Passing, health.Warning}, health.Warning},
		{[]health.Status{health.Warning, health.Critical}, health.Critical},
		{[]health.Status{health.Critical, health.Warning, health.Passing}, health.Critical},
		{[]health.Status{health.Passing, "so-so"}, health.Passing},
		{[]health.Status{"so-so", health.Critical}, health.Critical},
		{[]health.Status{""}, health.Passing},
	} {
		var e health.Entry
		for _, s := range c.of {
			e.Checks = append(e.Checks, &health.Check{Status: s})
		}
		if got := e.Worst(); got != c.want {
			t.Errorf("the worst of %q is %q, want %q", c.of, got, c.want)
		}
	}
}

func TestChecksWithTooMuchText(t *testing.T) {
	long := strings.Repeat("x", health.MaxText+1)
	for _, c := range []struct {
		check health.Check
		want  string
	}{
		{health.Check{ID: "c", Name: long}, `Invalid check "c": Name has 4097 bytes, 4096 are possible`},
		{health.Check{ID: "c", Notes: long}, `Invalid check "c": Notes has 4097 bytes, 4096 are possible`},
		{health.Check{ID: "c", Status: health.Status(long)}, `Invalid check "c": Status has 4097 bytes, 4096 are possible`},
		{health.Check{ID: "c", Output: strings.Repeat("x", health.MaxOutput+1)}, `Invalid check "c": Output has 524289 bytes, 524288 are possible`},
		{health.Check{ID: "c", Name: long[1:], Notes: long[1:], Output: long}, ""},
	} {
		r := health.Register{Checks: []health.Check{c.check}}
		r.Node.Name, r.Node.Address = "n", "10.0.0.1"
		got := ""
		if err := r.Normalize(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
