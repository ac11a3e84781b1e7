package catalog_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/kv/mvcc"
)

const uuid = "0b3d9c6e-1f2a-4b5c-8d7e-9f0a1b2c3d4e"

func TestRefusedRegistrations(t *testing.T) {
	node := catalog.Node{Name: "n1", Address: "10.0.0.1"}
	withService := func(s catalog.Service) catalog.Registration {
		return catalog.Registration{Node: node, Service: &s}
	}
	for _, c := range []struct {
		name string
		r    catalog.Registration
		want string // empty: accepted
	}{
		{"a node", catalog.Registration{Node: node}, ""},
		{"nothing", catalog.Registration{}, "Must provide node"},
		{"no name", catalog.Registration{Node: catalog.Node{Address: "10.0.0.1"}}, "Must provide node"},
		{"no name, no update", catalog.Registration{SkipNodeUpdate: true}, "Must provide node"},
		{"no address", catalog.Registration{Node: catalog.Node{Name: "n1"}}, "Must provide address if SkipNodeUpdate is not set"},
		{"no address, no update", catalog.Registration{Node: catalog.Node{Name: "n1"}, SkipNodeUpdate: true}, ""},
		{"an ID", catalog.Registration{Node: catalog.Node{Name: "n1", Address: "a", ID: uuid}}, ""},
		{"a short ID", catalog.Registration{Node: catalog.Node{Name: "n1", Address: "a", ID: "0b3d9c6e"}}, `Bad node ID: "0b3d9c6e" is not a UUID`},
		{"an ID without dashes", catalog.Registration{Node: catalog.Node{Name: "n1", Address: "a", ID: strings.Repeat("0", 36)}},
			`Bad node ID: "` + strings.Repeat("0", 36) + `" is not a UUID`},
		{"an ID of other letters", catalog.Registration{Node: catalog.Node{Name: "n1", Address: "a", ID: "g" + uuid[1:]}}, `Bad node ID: "g` + uuid[1:] + `" is not a UUID`},
		{"an ID of other runes", catalog.Registration{Node: catalog.Node{Name: "n1", Address: "a", ID: "é" + uuid[2:]}}, `Bad node ID: "é` + uuid[2:] + `" is not a UUID`},
		{"a name with a NUL", catalog.Registration{Node: catalog.Node{Name: "n\x001", Address: "a"}}, `Invalid node name "n\x001": it must not contain a NUL byte`},
		{"a name of any other characters", catalog.Registration{Node: catalog.Node{Name: "Ü n/1", Address: "a"}}, ""},

		{"a service", withService(catalog.Service{Name: "web"}), ""},
		{"a service of any other characters", withService(catalog.Service{Name: "my web_1/ü"}), ""},
		{"a service without a name", withService(catalog.Service{}), "Must provide service name (Service.Service)"},
		{"a service with an ID alone", withService(catalog.Service{ID: "web1"}), "Must provide service name (Service.Service) when service ID is provided"},
		{"a service at 0.0.0.0", withService(catalog.Service{Name: "web", Address: "0.0.0.0"}), "Invalid service address"},
		{"a service at ::", withService(catalog.Service{Name: "web", Address: "::"}), "Invalid service address"},
		{"a service at :: written out", withService(catalog.Service{Name: "web", Address: "0:0:0:0:0:0:0:0"}), "Invalid service address"},
		{"a service at a host name", withService(catalog.Service{Name: "web", Address: "web.example.com"}), ""},
		{"a service at ::1", withService(catalog.Service{Name: "web", Address: "::1"}), ""},
		{"a service with a proxy", withService(catalog.Service{Name: "w", Proxy: nestedProxy(64)}), ""},
		{"a service with a proxy whose text has brackets", withService(catalog.Service{Name: "w", Proxy: []byte(`{"a":"` + strings.Repeat(`[\"{`, 100) + `"}`)}), ""},
		{"a service with a proxy that is nested too deeply", withService(catalog.Service{Name: "w", Proxy: nestedProxy(65)}),
			"Invalid service proxy: 65 objects and lists stand in each other, which is more than 64"},
		{"a service at the highest port", withService(catalog.Service{Name: "w", Port: 65535}), ""},
		{"a service above the highest port", withService(catalog.Service{Name: "w", Port: 65536}), "Invalid service: port 65536 is not between 0 and 65535"},
		{"a service below all ports", withService(catalog.Service{Name: "w", Port: -1}), "Invalid service: port -1 is not between 0 and 65535"},
		{"a tagged address above the highest port", withService(catalog.Service{Name: "w", TaggedAddresses: map[string]catalog.ServiceAddress{"a": {Port: 1}, "wan": {Port: 70000}}}),
			`Invalid service: port of the tagged address "wan": 70000 is not between 0 and 65535`},
		{"a weight beyond SRV records", withService(catalog.Service{Name: "w", Weights: catalog.Weights{Passing: 65536}}), "Invalid service: weight while passing: 65536 is not between 0 and 65535"},
		{"a weight for warnings beyond SRV records", withService(catalog.Service{Name: "w", Weights: catalog.Weights{Passing: 1, Warning: 65536}}), "Invalid service: weight while warning: 65536 is not between 0 and 65535"},
		{"weights that count as none", withService(catalog.Service{Name: "w", Weights: catalog.Weights{Passing: -5, Warning: -5}}), ""},
		{"a service name with a NUL", withService(catalog.Service{Name: "w\x00"}), `Invalid service name "w\x00": it must not contain a NUL byte`},
		{"a service ID with a NUL", withService(catalog.Service{Name: "w", ID: "\x00"}), `Invalid service ID "\x00": it must not contain a NUL byte`},
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
	r := catalog.Registration{
		Node:    catalog.Node{Name: "N1", Address: "10.0.0.1", ID: strings.ToUpper(uuid)},
		Service: &catalog.Service{Name: "Web"},
	}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	if r.Node.ID != uuid || r.Node.Name != "N1" {
		t.Errorf("the node is %+v", r.Node)
	}
	want := catalog.Service{ID: "Web", Name: "Web", Tags: []string{}, Weights: catalog.Weights{Passing: 1, Warning: 1}}
	if !reflect.DeepEqual(*r.Service, want) {
		t.Errorf("the service is %+v, want %+v", *r.Service, want)
	}
	again := *r.Service
	if err := r.Normalize(); err != nil || !reflect.DeepEqual(*r.Service, again) {
		t.Errorf("once more made %+v of it, error %v", *r.Service, err)
	}
}

func TestNormalizeKeepsWhatIsGiven(t *testing.T) {
	given := catalog.Service{ID: "w1", Name: "web", Tags: []string{"B", "a"}, Address: "10.9.9.9", Port: 80, Meta: map[string]string{"k": "v"}, Kind: "connect-proxy", Proxy: []byte("{}"), Native: true}
	s := given
	s.Weights = catalog.Weights{Passing: 10, Warning: 3}
	r := catalog.Registration{Node: catalog.Node{Name: "n", Address: "a"}, Service: &s}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	given.Weights = catalog.Weights{Passing: 10, Warning: 3}
	if !reflect.DeepEqual(s, given) {
		t.Errorf("the service is %+v, want %+v", s, given)
	}
}

func TestWeights(t *testing.T) {
	for _, c := range []struct{ given, want catalog.Weights }{
		{catalog.Weights{}, catalog.Weights{Passing: 1, Warning: 1}},
		{catalog.Weights{Passing: -1, Warning: -1}, catalog.Weights{Passing: 1, Warning: 1}},
		{catalog.Weights{Passing: 5}, catalog.Weights{Passing: 5}},
		{catalog.Weights{Passing: 5, Warning: -1}, catalog.Weights{Passing: 5, Warning: 1}},
		{catalog.Weights{Warning: 3}, catalog.Weights{Passing: 1, Warning: 3}},
		{catalog.Weights{Passing: 65535, Warning: 65535}, catalog.Weights{Passing: 65535, Warning: 65535}},
	} {
		r := catalog.Registration{Node: catalog.Node{Name: "n", Address: "a"}, Service: &catalog.Service{Name: "web", Weights: c.given}}
		if err := r.Normalize(); err != nil || r.Service.Weights != c.want {
			t.Errorf("weights %+v became %+v (error %v), want %+v", c.given, r.Service.Weights, err, c.want)
		}
	}
}

// nestedProxy is a proxy's definition of so many lists and one object in each
// other.
func nestedProxy(depth int) []byte {
	return []byte(`{"Config":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + "}")
}

// What cannot be written any more can still be read and removed.
func TestOperationsOnPortsThatThereCannotBe(t *testing.T) {
	for verb, want := range map[catalog.Verb]string{
		catalog.VerbGet: "", catalog.VerbDelete: "", catalog.VerbDeleteCAS: "",
		catalog.VerbSet: "Invalid service: port 65536 is not between 0 and 65535", catalog.VerbCAS: "Invalid service: port 65536 is not between 0 and 65535",
	} {
		o := catalog.ServiceOp{Verb: verb, Service: catalog.Service{Node: "n", ID: "s", Name: "s", Port: 65536}}
		got := ""
		if err := o.Normalize(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: the error is %q, want %q", verb, got, want)
		}
	}
}
