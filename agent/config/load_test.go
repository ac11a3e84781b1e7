package config

import (
	"errors"
	"flag"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// testHost is a machine with a name and some addresses.
func testHost(addresses ...string) host {
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	return host{
		name:      func() (string, error) { return "host1", nil },
		addresses: func() ([]netip.Addr, error) { return all, nil },
		expand: func(text string) (string, error) {
			switch text {
			case "{{ two }}":
				return "10.0.0.1 10.0.0.2", nil
			case "{{ one }}":
				return "10.0.0.1", nil
			case "{{ none }}":
				return "", nil
			}
			return "", errors.New("no such function")
		},
		openFiles: func() (uint64, bool) { return 1024, true },
		hasUser:   func(name string) bool { return name == "u" },
		hasGroup:  func(name string) bool { return name == "7" },
	}
}

// folder writes files into a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// flags parses a command line.
func flags(t *testing.T, args ...string) Sources {
	t.Helper()
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f := RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.Sources()
}

// Precedence is seen best in the settings themselves, because some of these keys
// have no effect yet.
func TestPrecedence(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		flags []string
		key   string
		want  any
	}{
		{"lists of flags come first", map[string]string{"10.json": `{"retry_join": ["b"]}`, "20.json": `{"retry_join": ["c"]}`},
			[]string{"-retry-join", "a"}, "retry_join", []string{"a", "b", "c"}},
		{"fragments beat flags beat files", map[string]string{"a.hcl": `log_level = "warn"`},
			[]string{"-log-level=debug", "-hcl", `log_level="trace"`}, "log_level", "trace"},
		{"flags beat files", map[string]string{"a.hcl": `log_level = "warn"`}, []string{"-log-level=error"}, "log_level", "error"},
		{"files beat development", map[string]string{"a.hcl": `log_level = "warn"`}, nil, "log_level", "warn"},
		{"development beats the defaults", nil, nil, "log_level", "DEBUG"},
		{"later files beat earlier ones", map[string]string{"b.json": `{"ports": {"http": 2}}`, "a.json": `{"ports": {"http": 1, "dns": 1}}`}, nil, "ports.http", 2},
		{"objects are merged by field", map[string]string{"b.json": `{"ports": {"http": 2}}`, "a.json": `{"ports": {"http": 1, "dns": 1}}`}, nil, "ports.dns", 1},
		{"maps are merged by key", map[string]string{"a.json": `{"node_meta": {"a": "1", "b": "1"}}`, "b.json": `{"node_meta": {"b": "2", "c": "2"}}`},
			[]string{"-node-meta", "c:3", "-node-meta", "d:x:y"}, "node_meta", map[string]string{"a": "1", "b": "2", "c": "3", "d": "x:y"}},
		{"the last fragment wins", nil, []string{"-hcl", `datacenter="a"`, "-hcl", `datacenter="b"`}, "datacenter", "b"},
		{"fragments come last in lists", map[string]string{"a.hcl": `retry_join = ["b"]`}, []string{"-hcl", `retry_join=["c"]`, "-retry-join=a"}, "retry_join", []string{"a", "b", "c"}},
		{"an old name counts less", map[string]string{"a.hcl": `ui_config { content_path = "/new/" }`, "b.hcl": `ui_content_path = "/old/"`}, nil, "ui_config.content_path", "/new/"},
		{"an old name counts alone", map[string]string{"b.hcl": `ui_content_path = "/old/"`}, nil, "ui_config.content_path", "/old/"},
		{"old lists come behind", map[string]string{"a.hcl": `start_join = ["b"]`, "b.hcl": `retry_join = ["a"]`}, nil, "retry_join", []string{"a", "b"}},
		{"an empty file says nothing", map[string]string{"a.json": `{"datacenter": "x"}`, "b.json": ""}, nil, "datacenter", "x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"-dev", "-config-dir", folder(t, test.files)}, test.flags...)
			c, err := load(flags(t, args...), testHost())
			if err != nil {
				t.Fatal(err)
			}
			if got := c.settings[test.key].value; !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Files and folders are one list, in the order of the command line.
func TestOrderOfFiles(t *testing.T) {
	dir := folder(t, map[string]string{"a.json": `{"datacenter": "a"}`, "b.hcl": `datacenter = "b"`})
	file := filepath.Join(folder(t, map[string]string{"c.json": `{"datacenter": "c"}`}), "c.json")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-config-dir", dir, "-config-file", file}, "c"},
		{[]string{"-config-file", file, "-config-dir", dir}, "b"},
	} {
		c, err := load(flags(t, append(test.args, "-dev")...), testHost())
		if err != nil {
			t.Fatal(err)
		}
		if c.Datacenter != test.want {
			t.Errorf("%v: got %q, want %q", test.args, c.Datacenter, test.want)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := folder(t, map[string]string{"a.json": "{}", "B.HCL": "", "README": "not for us", "x.json~": "old"})
	if err := os.Mkdir(filepath.Join(dir, "deep.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "a.json"), filepath.Join(dir, "z.json")); err != nil {
		t.Fatal(err)
	}
	if listener, err := net.Listen("unix", filepath.Join(dir, "s.hcl")); err == nil { // where sockets can be made
		defer listener.Close()
	} else if err := os.Symlink(os.DevNull, filepath.Join(dir, "s.hcl")); err != nil {
		t.Fatal(err)
	}
	c, err := load(Sources{Dev: true, Files: []string{dir}}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	for _, path := range c.Files {
		read = append(read, filepath.Base(path))
	}
	if want := []string{"B.HCL", "a.json", "z.json"}; !slices.Equal(read, want) {
		t.Errorf("read %v, want %v", read, want)
	}
	if len(c.Warnings) != 3 || !strings.Contains(c.Warnings[0], "README is skipped") || !strings.HasSuffix(c.Warnings[1], "s.hcl is skipped: it is no file") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if _, err := load(Sources{Dev: true, Files: []string{dir}, Format: "json"}, testHost()); err == nil || !strings.Contains(err.Error(), "README:1:1: JSON") {
		t.Errorf("with a format, every file counts: %v", err)
	}
}

func TestFileFaults(t *testing.T) {
	dir := folder(t, map[string]string{"a.txt": `{"datacenter": "x"}`})
	text := filepath.Join(dir, "a.txt")
	for _, test := range []struct {
		name    string
		sources Sources
		want    string
	}{
		{"another extension", Sources{Files: []string{text}}, "a.txt: the name ends neither in .hcl nor in .json; -config-format says which it is"},
		{"not there", Sources{Files: []string{dir + "/none.hcl"}}, "cannot read configuration: stat " + dir + "/none.hcl: no such file"},
		{"not there, by a flag", Sources{Files: []string{text, dir + "/none.hcl"}, Format: "json", origins: []string{"-config-file", "-config-dir"}},
			"flag -config-dir: cannot read configuration: stat " + dir + "/none.hcl: no such file"},
		{"unknown format", Sources{Format: "yaml"}, `-config-format must be hcl or json, not "yaml"`},
		{"fragment", Sources{HCL: []string{"", "a ="}}, "-hcl fragment 2:1:4: HCL: expected a value, not the end of the file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.sources.Dev = true
			_, err := load(test.sources, testHost())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	c, err := load(Sources{Dev: true, Files: []string{text}, Format: "json"}, testHost())
	if err != nil || c.Datacenter != "x" {
		t.Errorf("with a format: %v, %v", c, err)
	}
}

func TestTooManyFiles(t *testing.T) {
	file := filepath.Join(folder(t, map[string]string{"a.json": ""}), "a.json")
	_, err := load(Sources{Dev: true, Files: slices.Repeat([]string{file}, MaxFiles+2)}, testHost())
	if want := file + ": more than 4096 configuration files"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The flags of the documents, each of which sets a key.
func TestFlags(t *testing.T) {
	args := map[string]string{
		"-advertise=127.0.0.1": "advertise_addr", "--advertise-wan=127.0.0.1": "advertise_addr_wan", "-alt-domain=x": "alt_domain",
		"-allow-write-http-from=10.0.0.0/8": "http_config.allow_write_http_from", "-auto-reload-config": "auto_reload_config", "-bind=127.0.0.1": "bind_addr",
		"-bootstrap=false": "bootstrap", "-bootstrap-expect=0": "bootstrap_expect", "-check_output_max_size=1": "check_output_max_size",
		"-check-output-max-size=1": "check_output_max_size", "-client=127.0.0.1": "client_addr", "-data-dir=/x": "data_dir", "-datacenter=x": "datacenter",
		"-default-query-time=1s": "default_query_time", "-disable-host-node-id": "disable_host_node_id", "-disable-keyring-file": "disable_keyring_file",
		"-dns-port=1": "ports.dns", "-domain=x": "domain", "-enable-script-checks": "enable_script_checks", "-enable-local-script-checks": "enable_local_script_checks",
		"-encrypt=x": "encrypt", "-grpc-port=1": "ports.grpc", "-grpc-tls-port=1": "ports.grpc_tls", "-http-port=1": "ports.http", "-https-port=1": "ports.https",
		"-join=a": "start_join", "-join-wan=a": "start_join_wan", "-log-file=x": "log_file", "-log-json": "log_json", "-log-level=info": "log_level",
		"-log-rotate-bytes=1": "log_rotate_bytes", "-log-rotate-duration=1s": "log_rotate_duration", "-log-rotate-max-files=-1": "log_rotate_max_files",
		"-max-query-time=1s": "max_query_time", "-node=x": "node_name", "-node-id=x": "node_id", "-node-meta=a:b": "node_meta", "-non-voting-server": "non_voting_server",
		"-pid-file=x": "pid_file", "-primary-gateway=x": "primary_gateways", "-protocol=2": "protocol", "-raft-protocol=3": "raft_protocol",
		"-read-replica": "read_replica", "-recursor=x": "recursors", "-rejoin": "rejoin_after_leave", "-retry-interval=1s": "retry_interval",
		"-retry-interval-wan=1s": "retry_interval_wan", "-retry-join=x": "retry_join", "-retry-join-wan=x": "retry_join_wan", "-retry-max=1": "retry_max",
		"-retry-max-wan=1": "retry_max_wan", "-segment=x": "segment", "-serf-lan-allowed-cidrs=x": "serf_lan_allowed_cidrs", "-serf-lan-bind=x": "serf_lan",
		"-serf-lan-port=1": "ports.serf_lan", "-serf-wan-allowed-cidrs=x": "serf_wan_allowed_cidrs", "-serf-wan-bind=x": "serf_wan",
		"-serf-wan-port=-1": "ports.serf_wan", "-server": "server", "-server-port=1": "ports.server", "-syslog": "enable_syslog", "-ui": "ui_config.enabled",
		"-ui-dir=x": "ui_config.dir", "-ui-content-path=x": "ui_config.content_path",
	}
	for arg, key := range args {
		s := flags(t, arg)
		if got := slices.Collect(maps.Keys(s.Flags)); !slices.Equal(got, []string{key}) {
			t.Errorf("%s sets %v, want %s", arg, got, key)
		}
	}
	s := flags(t, "-dev", "-config-file", "a", "-config-dir=b", "--config-file=c", "-config-format", "hcl", "-hcl", "x", "-hcl=y")
	want := Sources{Dev: true, Files: []string{"a", "b", "c"}, origins: []string{"-config-file", "-config-dir", "-config-file"}, HCL: []string{"x", "y"}, Format: "hcl", Flags: File{}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestBadFlags(t *testing.T) {
	for arg, want := range map[string]string{
		"-http-port=x":            `invalid value "x" for flag -http-port: it must be a whole number`,
		"-http-port=70000":        `it must be at most 65535, but is 70000`,
		"-server=maybe":           `it must be true or false`,
		"-node-meta=a":            `it must be a pair as in key:value`,
		"-max-query-time=5":       `it must be a duration as in 90s or 1h30m`,
		"-check_output_max_size=": `it must be a whole number`,
	} {
		fs := flag.NewFlagSet("agent", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		RegisterFlags(fs)
		if err := fs.Parse([]string{arg}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", arg, err, want)
		}
	}
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	var help strings.Builder
	fs.SetOutput(&help)
	RegisterFlags(fs)
	fs.PrintDefaults()
	if !strings.Contains(help.String(), "  -http-port value\n    \tport of HTTP; -1 is off") {
		t.Errorf("help: %s", help.String())
	}
	for _, name := range []string{"ui", "join-wan", "retry-join-wan", "segment"} {
		if usage := fs.Lookup(name).Usage; strings.Count(usage, "not supported") != 1 {
			t.Errorf("the help of -%s does not say once that it has no effect: %q", name, usage)
		}
	}
}

func TestNeedsRestart(t *testing.T) {
	with := func(text string) *Config {
		t.Helper()
		c, err := load(Sources{Dev: true, HCL: []string{text}}, testHost())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := with(`node_meta { a = "1" }`)
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", `node_meta { a = "1" }`, nil},
		{"what can be reloaded", "node_meta { a = \"2\" }\nlog_level = \"warn\"\nservice { name = \"a\" }\nwatches = [{ type = \"nodes\", args = [\"x\"] }]", nil},
		{"what has no effect", `acl { down_policy = "deny" }`, nil},
		{"what cannot", "ports { http = 9 }\ndatacenter = \"x\"\nhttp_config { response_headers { a = \"b\" } }",
			[]string{"datacenter", "http_config.response_headers", "ports.http"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := NeedsRestart(old, with(test.text)); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// What a reload takes over is told apart from what waits for a restart, which is
// so as long as the agent was not restarted.
func TestCompare(t *testing.T) {
	with := func(text string) *Config {
		t.Helper()
		c, err := load(Sources{Dev: true, HCL: []string{text}}, testHost())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	started := with("node_meta { a = \"1\" }\ndatacenter = \"x\"\nencrypt = \"MDEyMzQ1Njc4OWFiY2RlZg==\"\nservice { name = \"a\" }\nservices { name = \"b\" }\ncheck { id = \"c\", ttl = \"1s\" }")
	running := with("node_meta { a = \"1\" }\ndatacenter = \"y\"\nservice { name = \"a\" }\nservices { name = \"b\" }\ncheck { id = \"c\", ttl = \"1s\" }")
	next := with("node_meta { a = \"2\" }\ndatacenter = \"y\"\nlog_level = \"warn\"\nserf_lan_allowed_cidrs = [\"127.0.0.0/8\"]\ndns_config { node_ttl = \"5s\" }\n" +
		"services = [{ name = \"b\", port = 7 }, { name = \"d\" }]\ncheck { id = \"c\", ttl = \"1s\" }\nwatches { type = \"nodes\", args = [\"x\"] }")
	show := func(changes []Change) []string {
		var lines []string
		for _, c := range changes {
			lines = append(lines, c.String())
		}
		return lines
	}
	report := Compare(started, running, next)
	if got, want := show(report.Applied), []string{
		`dns_config.node_ttl: from unset to 5s`,
		`log_level: from "DEBUG" to "warn"`,
		`node_meta: from [a:1] to [a:2]`,
		`services: 1 added (d), 1 changed (b), 1 removed (a)`,
	}; !slices.Equal(got, want) {
		t.Errorf("applied %q, want %q", got, want)
	}
	if got, want := show(report.Restart), []string{
		`datacenter: from "x" to "y"`,
		`encrypt: it is another one`,
		`serf_lan_allowed_cidrs: from unset to ["127.0.0.0/8"]`,
	}; !slices.Equal(got, want) {
		t.Errorf("restart %q, want %q", got, want)
	}
	if report := Compare(started, started, with("encrypt = \"MDEyMzQ1Njc4OWFiY2RlZg==\"\nnode_meta { a = \"1\" }\ndatacenter = \"x\"\nservices = [{ name = \"b\" }, { name = \"a\" }]\ncheck { id = \"c\", ttl = \"1s\" }")); len(report.Applied)+len(report.Restart) > 0 {
		t.Errorf("the same in another order: %+v", report)
	}
}

// What flags say is read again with each load, and is not changed by files.
func TestCompareWithLists(t *testing.T) {
	dir := folder(t, map[string]string{"a.hcl": `retry_join = ["d"]`})
	s := flags(t, "-dev", "-retry-join=a", "-retry-join=b", "-retry-join=c", "-config-dir", dir)
	first, err := load(s, testHost())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.hcl"), []byte(`retry_join = ["e"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := load(s, testHost())
	if err != nil {
		t.Fatal(err)
	}
	report := Compare(first, first, second)
	if len(report.Restart) != 1 || report.Restart[0].String() != `retry_join: from ["a" "b" "c" "d"] to ["a" "b" "c" "e"]` {
		t.Errorf("got %+v", report)
	}
}

// Leaving a key out is the same as writing the value that it then has, except
// for keys that depend on others.
func TestCompareWithZeros(t *testing.T) {
	with := func(text string) *Config {
		t.Helper()
		c, err := load(Sources{Dev: true, HCL: []string{text}}, testHost())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	plain := with("")
	if report := Compare(plain, plain, with("raft_prevote_disabled = false\nretry_join = []\ndns_config { only_passing = false, node_ttl = \"0s\" }\nnode_meta {}")); len(report.Applied)+len(report.Restart) > 0 {
		t.Errorf("got %+v", report)
	}
	// A server stays by default, a client leaves.
	if report := Compare(plain, plain, with("leave_on_terminate = false")); len(report.Restart) != 1 {
		t.Errorf("got %+v", report)
	}
}

// Every key that must be reloaded is known to be, but for one: Consul reloads
// performance.raft_multiplier, on which the leases of leaders rest here.
func TestReloadTable(t *testing.T) {
	for _, path := range strings.Fields(`services checks node_meta watches log_level recursors telemetry.prefix_filter
		dns_config.node_ttl dns_config.only_passing dns_config.soa.min_ttl dns_config.recursor_timeout
		limits.http_max_conns_per_client limits.rpc_max_conns_per_client discard_check_output enable_debug
		raft_snapshot_threshold raft_snapshot_interval raft_trailing_logs limits.rpc_rate limits.rpc_max_burst limits.rpc_client_timeout limits.request_limits.mode cache.entry_fetch_rate
		ui_config.enabled acl.tokens.default acl.tokens.agent tls.defaults.cert_file tls.https.key_file`) {
		if !table.paths[path].key.Reloadable {
			t.Errorf("%s needs a restart", path)
		}
	}
	for _, path := range strings.Fields(`ports.http bind_addr advertise_addr datacenter node_name node_id server bootstrap domain alt_domain data_dir encrypt
		performance.raft_multiplier acl.enabled acl.default_policy gossip_lan.probe_interval retry_join enable_script_checks check_output_max_size check_update_interval
		log_file log_json telemetry.statsd_address telemetry.filter_default limits.kv_max_value_size leave_on_terminate skip_leave_on_interrupt`) {
		if table.paths[path].key.Reloadable {
			t.Errorf("%s is reloaded", path)
		}
	}
}
