package api

import (
	"net/url"
	"strings"
	"testing"

	"github.com/muster-sd/muster/catalog"
)

// filtered is an element with a field of every kind that filters know.
var filtered = &serviceEntry{
	Node: &node{Node: "a", Address: "10.0.0.1", Meta: map[string]string{"zone": "east", "a b": "c", "empty": ""}},
	Service: &nodeService{ID: "web-1", Service: "web", Tags: []string{"v1", "prod"}, Port: 80, EnableTagOverride: true,
		Meta: map[string]string{"path": "/v1/x"}, TaggedAddresses: map[string]catalog.ServiceAddress{"wan": {Address: "w", Port: 81}},
		Weights: catalog.Weights{Passing: 5}, Proxy: []byte(`{"DestinationServiceName":"db","MeshGateway":{"Mode":"local"}}`)},
	Checks: []*healthCheck{{CheckID: "c1", Status: "passing"}, {CheckID: "c2", Status: "warning", ServiceTags: []string{"v1"}}},
}

func TestFilters(t *testing.T) {
	for filter, want := range map[string]bool{
		`Node.Node == a`:                           true,
		`Node.Node == A`:                           false,
		`Node.Node!=a`:                             false,
		`"0.0" in Node.Address`:                    true,
		`Node.Address not contains "0.0"`:          false,
		`Node.Address matches "^10[.]"`:            true,
		`Node.Address not matches "^11"`:           true,
		`Service.Port == 80`:                       true,
		`Service.Port == "0x50"`:                   true,
		`Service.Port != 81`:                       true,
		`Service.EnableTagOverride == T`:           true,
		`Service.EnableTagOverride == false`:       false,
		`prod in Service.Tags`:                     true,
		`pro in Service.Tags`:                      false,
		`Service.Tags not contains v2`:             true,
		`Service.Tags matches "^pr"`:               true,
		`Service.Tags is empty`:                    false,
		`Service.Tags is not empty`:                true,
		`Service.Weights.Passing == 5`:             true,
		`Service.TaggedAddresses.wan.Port == 81`:   true,
		`Service.TaggedAddresses.lan.Port == 81`:   false,
		`Service.TaggedAddresses is empty`:         false,
		`wan in Service.TaggedAddresses`:           true,
		`Service.Meta.path == "/v1/x"`:             true,
		"Service.Meta.path == `/v1/x`":             true,
		`Service.Meta.path != "v1/x"`:              true,
		`Service.Proxy.DestinationServiceName==db`: true,
		`Service.Proxy.MeshGateway.Mode == local`:  true,
		`Node.Meta.zone == east`:                   true,
		`Node.Meta["a b"] == c`:                    true,
		`Node.Meta.empty == ""`:                    true,
		`zone in Node.Meta`:                        true,
		`Node.TaggedAddresses is empty`:            true,
		// A key that is not there.
		`Node.Meta.none == x`:           false,
		`Node.Meta.none != x`:           true,
		`x in Node.Meta.none`:           false,
		`x not in Node.Meta.none`:       true,
		`Node.Meta.none contains x`:     false,
		`Node.Meta.none not contains x`: true,
		`Node.Meta.none matches x`:      true,
		`Node.Meta.none not matches x`:  true,
		// A list of structs: any element counts.
		`Checks.Status == warning`:                                 true,
		`Checks.Status == critical`:                                false,
		`Checks.Status != passing`:                                 true,
		`Checks is empty`:                                          false,
		`v1 in Checks.ServiceTags`:                                 true,
		`not Checks.Status == critical`:                            true,
		`not not Node.Node == a`:                                   true,
		`Node.Node == b or Node.Node == a`:                         true,
		`Node.Node == b and Node.Node == a`:                        false,
		`Node.Node == a or Node.Node == b and x in Service.Tags`:   true,
		`((((((Node.Node == a))))))`:                               true,
		`Node.Meta["(((((((("] != "(((((((("`:                      true,
		`(Node.Node == a or Node.Node == b) and x in Service.Tags`: false,
	} {
		c := &call{query: url.Values{"filter": {filter}}}
		keep, err := readFilter[serviceEntry](c)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if keep(filtered) != want {
			t.Errorf("%s: got %t", filter, !want)
		}
		keep(&serviceEntry{}) // nothing set must do no harm
	}
}

func TestRefusedFilters(t *testing.T) {
	const prefix = "Failed to create boolean expression evaluator: "
	for filter, want := range map[string]string{
		`Node.Colour == x`:             prefix + `Selector "Node.Colour" is not valid`,
		`Node.node == x`:               prefix + `Selector "Node.node" is not valid`,
		`Node.CreateIndex == 1`:        prefix + `Selector "Node.CreateIndex" is not valid`,
		`Node.Locality.Region == 1`:    prefix + `Selector "Node.Locality.Region" is not valid`,
		`Checks.Definition.TCP == x`:   prefix + `Selector "Checks.Definition.TCP" is not valid`,
		`Node.Node.x == 1`:             prefix + `Selector "Node.Node.x" is not valid`,
		`Service.Proxy.Nope == 1`:      prefix + `Selector "Service.Proxy.Nope" is not valid`,
		`Service.Port contains 8`:      prefix + `Invalid match operator "In" for selector "Service.Port"`,
		`8 not in Service.Port`:        prefix + `Invalid match operator "Not In" for selector "Service.Port"`,
		`Node.Node is empty`:           prefix + `Invalid match operator "Is Empty" for selector "Node.Node"`,
		`Node.Node is not empty`:       prefix + `Invalid match operator "Is Not Empty" for selector "Node.Node"`,
		`Service.Tags == x`:            prefix + `Invalid match operator "Equal" for selector "Service.Tags"`,
		`Service.Tags != x`:            prefix + `Invalid match operator "Not Equal" for selector "Service.Tags"`,
		`Node == x`:                    prefix + `Invalid match operator "Equal" for selector "Node"`,
		`Service.Port == abc`:          prefix + `Failed to coerce value "abc" for selector "Service.Port": strconv.ParseInt: parsing "abc": invalid syntax`,
		`Service.EnableTagOverride==x`: prefix + `Failed to coerce value "x" for selector "Service.EnableTagOverride": strconv.ParseBool: parsing "x": invalid syntax`,
		`Node.Node matches "["`:        prefix + "Failed to compile regular expression \"[\": error parsing regexp: missing closing ]: `[`",
		`any Checks as c { c == x }`:   prefix + "any and all are not part of the filter language",
		`Node.Meta is nil`:             prefix + "is nil is not part of the filter language",
	} {
		_, err := readFilter[serviceEntry](&call{query: url.Values{"filter": {filter}}})
		if err == nil {
			t.Errorf("%s was accepted", filter)
			continue
		}
		if status, text := statusOf(err); status != 500 || text != want {
			t.Errorf("%s: got %d %s", filter, status, text)
		}
	}
	for filter, want := range map[string]int{
		`Node.Meta.zone`: 500, `Node.Node ==`: 500, `"/Node/Node" == a`: 500, `Node.Node == 'a'`: 500,
		strings.Repeat("(", 7) + "Node.Node == a" + strings.Repeat(")", 7): 400,
		strings.Repeat("x", maxFilter+1):                                   400,
	} {
		_, err := readFilter[serviceEntry](&call{query: url.Values{"filter": {filter}}})
		if err == nil {
			t.Errorf("%.40s was accepted", filter)
			continue
		}
		if status, text := statusOf(err); status != want {
			t.Errorf("%.40s: got %d %s", filter, status, text)
		}
	}
}
