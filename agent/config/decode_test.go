package config

import (
	"fmt"
	"strings"
	"testing"
)

// faults returns the errors of a text, a line each.
func faults(format, text string) string {
	errs := &problems{}
	source(input{"f." + format, format, []byte(text)}, errs)
	if err := errs.err(); err != nil {
		return err.Error()
	}
	return ""
}

func TestDecodeFaults(t *testing.T) {
	tests := []struct {
		name, format, text, want string
	}{
		// Keys that nobody knows.
		{"unknown key", "json", `{"nonsense": 1}`, `f.json:1:2: invalid config key nonsense`},
		{"unknown key with a neighbour", "json", `{"ports": {"htpp": 1}}`, `f.json:1:12: invalid config key ports.htpp (did you mean "ports.http"?)`},
		{"unknown key of another object", "hcl", `udp_answer_limit = 3`, `f.hcl:1:1: invalid config key udp_answer_limit (did you mean "dns_config.udp_answer_limit"?)`},
		{"dotted key", "hcl", `ports.http = 1`, `f.hcl:1:1: invalid config key ports.http`},
		{"label of a block", "hcl", `service "web" { port = 1 }`, `f.hcl:1:9: invalid config key service.web (blocks have no labels: write service { … }, with the name in it)`},
		{"path in place of a key", "hcl", `ports.http = 80`, `f.hcl:1:1: invalid config key ports.http (write ports { http = … })`},
		{"deep path in place of a key", "json", `{"tls.defaults.ca_file": "x"}`, `f.json:1:2: invalid config key tls.defaults.ca_file (write tls { defaults { ca_file = … } })`},
		{"service without its object", "json", `{"Name": "web"}`, `f.json:1:2: invalid config key Name (did you mean "service.name"?)`},
		{"ID of a service without its object", "json", `{"ID": "web"}`, `f.json:1:2: invalid config key ID (did you mean "service.id"?)`},
		{"list of services under the key of one", "json", `{"service": [{"name": "a"}]}`, `f.json:1:13: service must be an object, not a list; for several use services`},
		{"unknown block at the beginning", "hcl", `servce { name = "a" }`, `f.hcl:1:1: invalid config key servce (did you mean "service"?)`},
		{"CamelCase", "json", `{"service": {"name": "a", "EnableTagOverride": true}}`, `f.json:1:27: invalid config key service.EnableTagOverride (did you mean "service.enable_tag_override"?)`},
		{"removed key", "hcl", `recursor = "1.1.1.1"`, `f.hcl:1:1: invalid config key recursor (it was removed; use "recursors")`},
		{"removed key of a check", "json", `{"check": {"id": "a", "script": "true"}}`, `f.json:1:23: invalid config key check.script (it was removed; use "check.args")`},
		{"element of a list", "json", `{"services": [{"name": "a"}, {"naem": "b"}]}`, `f.json:1:31: invalid config key services[1].naem (did you mean "service.name"?)`},
		{"service with a label", "hcl", `service "web" { port = 1 }`, `f.hcl:1:9: invalid config key service.web`},
		{"all at once", "hcl", "aaaaaaa = 1\nserver = 1\nbbbbbbb = 2", "f.hcl:1:1: invalid config key aaaaaaa\nf.hcl:2:10: server must be true or false, not a number (\"1\")\nf.hcl:3:1: invalid config key bbbbbbb"},

		// Values of another type.
		{"number in quotes", "json", `{"ports": {"http": "80"}}`, `f.json:1:20: ports.http must be a number, not a text ("80")`},
		{"truth in quotes", "hcl", `server = "true"`, `f.hcl:1:10: server must be true or false, not a text ("true")`},
		{"truth as a number", "hcl", `server = 1`, `f.hcl:1:10: server must be true or false, not a number ("1")`},
		{"text as a number", "hcl", `node_name = 5`, `f.hcl:1:13: node_name must be a text, not a number ("5")`},
		{"duration as a number", "json", `{"dns_config": {"node_ttl": 5}}`, `f.json:1:29: dns_config.node_ttl must be a duration in quotes as in "90s", not a number`},
		{"duration without unit", "json", `{"dns_config": {"node_ttl": "5"}}`, `f.json:1:29: dns_config.node_ttl must be a duration as in "90s" or "1h30m", not "5"`},
		{"negative duration", "hcl", `max_query_time = "-5s"`, `f.hcl:1:18: max_query_time must not be negative, but is -5s`},
		{"text for a list", "hcl", `retry_join = "a"`, `f.hcl:1:14: retry_join must be a list, not a text ("a")`},
		{"number in a list", "hcl", `retry_join = ["a", 1]`, `f.hcl:1:20: retry_join[1] must be a text, not a number ("1")`},
		{"null in a list", "json", `{"retry_join": [null]}`, `f.json:1:17: retry_join[0] must be a text, not null`},
		{"list for an object", "json", `{"ports": []}`, `f.json:1:11: ports must be an object, not a list`},
		{"list for a service", "json", `{"service": [{"name": "a"}]}`, `f.json:1:13: service must be an object, not a list`},
		{"number in a map", "hcl", `node_meta { a = 1 }`, `f.hcl:1:17: node_meta.a must be a text, not a number ("1")`},
		{"map in a map", "hcl", `node_meta "a" { b = "c" }`, `f.hcl:1:15: node_meta.a must be a text, not an object`},
		{"duration in a map", "hcl", `dns_config { service_ttl { web = 5 } }`, `f.hcl:1:34: dns_config.service_ttl.web must be a duration in quotes as in "90s", not a number`},
		{"text for a list in a map", "json", `{"check": {"id": "a", "header": {"Host": "x"}}}`, `f.json:1:42: check.header.Host must be a list, not a text ("x")`},
		{"part of a number", "json", `{"ports": {"http": 1.5}}`, `f.json:1:20: ports.http must be a whole number, not 1.5`},
		{"text for an object in a map", "json", `{"service": {"name": "a", "tagged_addresses": {"lan": "10.0.0.1"}}}`, `service.tagged_addresses.lan must be an object, not a text ("10.0.0.1")`},

		// Values out of range.
		{"port too large", "json", `{"ports": {"http": 65536}}`, `f.json:1:20: ports.http must be at most 65535, but is 65536`},
		{"multiplier", "hcl", `performance { raft_multiplier = 11 }`, `f.hcl:1:33: performance.raft_multiplier must be from 0 to 10, but is 11`},
		{"Raft protocol", "hcl", `raft_protocol = 2`, `f.hcl:1:17: raft_protocol must be 3, but is 2`},
		{"size of output", "hcl", `check_output_max_size = 0`, `f.hcl:1:25: check_output_max_size must be at least 1, but is 0`},
		{"strategy", "hcl", `dns_config { recursor_strategy = "best" }`, `f.hcl:1:34: dns_config.recursor_strategy must be one of sequential, random, but is "best"`},
		{"version of TLS", "hcl", `tls { defaults { tls_min_version = "tls12" } }`, `tls.defaults.tls_min_version must be one of TLS_AUTO, TLSv1_0, TLSv1_1, TLSv1_2, TLSv1_3, but is "tls12"`},

		// Keys that occur twice.
		{"scalar", "hcl", "server = true\nserver = false", `f.hcl:2:1: server is given twice, first in line 1`},
		{"scalar with other letters", "json", "{\"server\": true,\n\"Server\": false}", `f.json:2:1: Server is given twice, first in line 1`},
		{"object", "hcl", "ports { http = 1 }\nports { dns = 2 }", `f.hcl:2:1: ports is given twice, first in line 1`},
		{"service block", "hcl", "service { name = \"a\" }\nservice { name = \"b\" }", `f.hcl:2:1: service is given twice, first in line 1; for several use services`},
		{"check block of a service", "hcl", "service { name = \"a\"\ncheck { ttl = \"1s\" }\ncheck { ttl = \"2s\" } }", `f.hcl:3:1: service.check is given twice, first in line 2; for several use service.checks`},
		{"map", "hcl", "node_meta { a = \"1\"\na = \"2\" }", `f.hcl:2:1: node_meta.a is given twice, first in line 1`},
		{"list", "json", "{\"retry_join\": [\"a\"],\n\"retry_join\": [\"b\"]}", `f.json:2:1: retry_join is given twice, first in line 1`},
		{"both spellings", "json", "{\"check\": {\"id\": \"a\", \"service_id\": \"b\",\n\"ServiceID\": \"c\"}}", `f.json:2:14: check.ServiceID is another name of check.service_id, which is given in line 1`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := faults(test.format, test.text)
			if got == "" || !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	tests := []struct {
		name, format, text string
	}{
		{"keys in any case", "json", `{"Datacenter": "a", "Ports": {"HTTP": 1}, "check": {"ID": "c", "Interval": "5s"}}`},
		{"spellings of checks", "json", `{"check": {"ID": "c", "ServiceID": "a", "ScriptArgs": ["x"], "DockerContainerID": "d", "TLSSkipVerify": true, "DeregisterCriticalServiceAfter": "1h"}}`},
		{"null", "json", `{"segments": null, "server": null, "ports": null, "services": null}`},
		{"empty objects", "json", `{"acl": {"tokens": {}}, "addresses": {}, "ports": {}, "telemetry": {}}`},
		{"object for a list of objects", "json", `{"services": {"name": "a"}}`},
		{"whole numbers in other notations", "json", `{"ports": {"http": 8e3, "dns": 53.0}}`},
		{"repeated blocks", "hcl", "services { name = \"a\" }\nservices { name = \"b\" }"},
		{"keys of other programs", "hcl", "experiments = [\"x\"]\nae_interval = \"1m\"\nconsul { coordinate { a = 1 } }\nversion = \"1\"\nrevision = \"x\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := faults(test.format, test.text)
			if got != "" {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestManyErrors(t *testing.T) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "wrong%d = 1\n", i)
	}
	got := faults("hcl", text.String())
	if lines := strings.Count(got, "\n") + 1; lines != MaxErrors+1 {
		t.Errorf("%d lines", lines)
	}
	if !strings.HasSuffix(got, "\nand 99950 more errors") {
		t.Errorf("got %s", got[len(got)-100:])
	}
}
