package config

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	samples    = filepath.Join("..", "..", "configs")
	dockerfile = filepath.Join("..", "..", "Dockerfile")
)

// sample reads a file as people get it.
func sample(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The samples are right as they are, and the two of a server say the same.
func TestSamples(t *testing.T) {
	entries, err := os.ReadDir(samples)
	if err != nil {
		t.Fatal(err)
	}
	servers := map[string]*Config{}
	for _, entry := range entries {
		if formatOf(entry.Name()) == "" {
			continue // what is not for Muster has a test of its own
		}
		t.Run(entry.Name(), func(t *testing.T) {
			s := Sources{Files: []string{filepath.Join(samples, entry.Name())}}
			s.Dev = !strings.HasPrefix(entry.Name(), "server.") && !strings.HasPrefix(entry.Name(), "cluster-")
			c, err := load(s, testHost("10.0.0.11"))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range c.Warnings {
				if !strings.Contains(w, "bootstrap_expect = 1 is the same") {
					t.Error(w)
				}
			}
			if strings.HasPrefix(entry.Name(), "service-") && len(c.Services) != 1 {
				t.Errorf("%d services", len(c.Services))
			}
			if strings.HasPrefix(entry.Name(), "server.") {
				c.Files, c.Warnings, c.settings = nil, nil, nil
				servers[entry.Name()] = c
			}
		})
	}
	if len(servers) != 2 || !reflect.DeepEqual(servers["server.hcl"], servers["server.json"]) {
		t.Errorf("server.hcl:  %+v\nserver.json: %+v", servers["server.hcl"], servers["server.json"])
	}
}

// The samples of a cluster fit each other: everybody joins all three servers of
// one datacenter.
func TestClusterSamples(t *testing.T) {
	var all []*Config
	for i, name := range []string{"cluster-server.hcl", "cluster-server.hcl", "cluster-server.hcl", "cluster-client.hcl"} {
		own := []string{"10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"}[i]
		c, err := load(Sources{Files: []string{filepath.Join(samples, name)}}, testHost("203.0.113.7", own))
		if err != nil {
			t.Fatal(err)
		}
		if c.AdvertiseAddr.String() != own {
			t.Errorf("%s advertises %v, want %s", name, c.AdvertiseAddr, own)
		}
		all = append(all, c)
	}
	for i, c := range all {
		if c.Datacenter != all[0].Datacenter || !slices.Equal(c.RetryJoin, []string{"10.0.0.11", "10.0.0.12", "10.0.0.13"}) {
			t.Errorf("agent %d is in %s and joins %v", i, c.Datacenter, c.RetryJoin)
		}
		if server := i < 3; c.Server != server || server && c.BootstrapExpect != 3 || c.Bootstrap {
			t.Errorf("agent %d: server %v, expects %d, bootstraps itself %v", i, c.Server, c.BootstrapExpect, c.Bootstrap)
		}
	}
}

// commandLine is what an agent does with a command line of words, the files of
// which are found below root.
func commandLine(t *testing.T, words []string, root string) *Config {
	t.Helper()
	if len(words) == 0 || words[0] != "agent" {
		t.Fatalf("the command is %q, want the agent", words)
	}
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f := RegisterFlags(fs)
	if err := fs.Parse(words[1:]); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	if fs.NArg() > 0 {
		t.Fatalf("%q is no flag", fs.Arg(0))
	}
	s := f.Sources()
	for i, path := range s.Files {
		s.Files[i] = filepath.Join(root, path)
	}
	c, err := load(s, testHost("172.18.0.2"))
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return c
}

// The unit for systemd starts an agent and checks its files, and systemd takes
// it as it is.
func TestUnit(t *testing.T) {
	unit := sample(t, filepath.Join(samples, "muster.service"))
	settings := map[string]string{}
	for line := range strings.Lines(unit) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if line == "" || line[0] == '#' || line[0] == '[' || !ok {
			continue
		}
		settings[name] = value
	}
	const binary = "/usr/local/bin/muster"
	words := map[string][]string{}
	for _, name := range []string{"ExecStartPre", "ExecStart", "ExecReload"} {
		words[name] = strings.Fields(settings[name])
		if len(words[name]) < 2 || words[name][0] != binary {
			t.Fatalf("%s = %q does not run %s", name, settings[name], binary)
		}
	}
	for _, name := range []string{"cluster-server.hcl", "cluster-client.hcl"} {
		root := t.TempDir()
		folder := filepath.Join(root, "etc", "muster.d")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(sample(t, filepath.Join(samples, name))), 0o600); err != nil {
			t.Fatal(err)
		}
		c := commandLine(t, words["ExecStart"][1:], root)
		if want := filepath.Join("/var/lib", settings["StateDirectory"]); c.DataDir != want {
			t.Errorf("%s keeps its state in %s, and the unit makes %s", name, c.DataDir, want)
		}
		if settings["Type"] == "notify" && len(c.RetryJoin) == 0 {
			t.Errorf("%s joins nobody, so that the unit would wait for ever", name)
		}
		pre := words["ExecStartPre"]
		if pre[1] != "validate" {
			t.Fatalf("ExecStartPre is %q", pre)
		}
		if _, err := Validate([]string{filepath.Join(root, pre[len(pre)-1])}, ""); err != nil && !strings.Contains(err.Error(), "advertise_addr") {
			t.Error(err) // but this machine's addresses may be any
		}
	}
	if got := words["ExecReload"][1:]; !slices.Equal(got, []string{"reload"}) {
		t.Errorf("ExecReload is %q", got)
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd does not judge the unit: systemd-analyze is not on this machine")
	}
	file := filepath.Join(t.TempDir(), "muster.service")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, binary, self)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "muster.service") {
			t.Errorf("systemd: %s", line)
		}
	}
	if err != nil && !t.Failed() {
		t.Logf("systemd-analyze: %v\n%s", err, out)
	}
}

// composeFile returns the fields of the services of a compose file in which each
// field stands on one line, with lists as JSON has them.
func composeFile(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	line := regexp.MustCompile(`^( *)([a-z0-9_]+):(?: (.+))?$`)
	services := map[string]map[string]any{}
	section, service := "", ""
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		if trimmed := strings.TrimSpace(l); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("this line is not as the test reads it: %s", l)
		}
		switch {
		case m[1] == "":
			section = m[2]
		case section != "services":
		case len(m[1]) == 2:
			service = m[2]
			services[service] = map[string]any{}
		case len(m[1]) == 4:
			var value any
			if err := json.Unmarshal([]byte(m[3]), &value); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			services[service][m[2]] = value
		default:
			t.Fatalf("this line is not as the test reads it: %s", l)
		}
	}
	return services
}

func texts(value any) []string {
	list, _ := value.([]any)
	var out []string
	for _, e := range list {
		text, _ := e.(string)
		out = append(out, text)
	}
	return out
}

// The agents of the compose file make one cluster, and the demo is a service of
// its client.
func TestCompose(t *testing.T) {
	services := composeFile(t, sample(t, filepath.Join(samples, "compose.yaml")))
	var servers []string
	for name, s := range services {
		if s["image"] != "muster" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, volume := range texts(s["volumes"]) {
				from, to, _ := strings.Cut(volume, ":")
				if !strings.HasPrefix(from, "./") {
					continue
				}
				to = filepath.Join(root, strings.TrimSuffix(to, ":ro"))
				if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(to, []byte(sample(t, filepath.Join(samples, from))), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := commandLine(t, texts(s["command"]), root)
			if c.DataDir != "/data" || !slices.Contains(texts(s["volumes"]), name+":/data") {
				t.Errorf("the state in %s is not on the volume of this service: %v", c.DataDir, s["volumes"])
			}
			if len(c.Warnings) > 0 {
				t.Errorf("warnings %q", c.Warnings)
			}
			for _, other := range c.RetryJoin {
				if services[other] == nil || services[other]["image"] != "muster" {
					t.Errorf("it joins %s, which is no agent", other)
				}
			}
			switch {
			case c.Server:
				servers = append(servers, name)
				if c.BootstrapExpect != 3 || len(c.RetryJoin) != 3 {
					t.Errorf("it expects %d servers and joins %v", c.BootstrapExpect, c.RetryJoin)
				}
			case len(c.Services) != 1 || services[c.Services[0].Service.Name] == nil:
				t.Errorf("the services are %+v", c.Services)
			default:
				demo := c.Services[0].Service.Name
				if services[demo]["network_mode"] != "service:"+name {
					t.Errorf("%s does not share the network of %s", demo, name)
				}
				if ports := texts(s["ports"]); !slices.Contains(ports, "127.0.0.1:8500:8500") || !slices.Contains(ports, "127.0.0.1:8600:8600/udp") {
					t.Errorf("the ports are %v", ports)
				}
			}
		})
	}
	if slices.Sort(servers); !slices.Equal(servers, []string{"server1", "server2", "server3"}) {
		t.Errorf("the servers are %v", servers)
	}
}

// What the image runs by itself is a server that stands alone.
func TestImageCommand(t *testing.T) {
	text := sample(t, dockerfile)
	at := strings.LastIndex(text, "\nCMD ")
	if at < 0 {
		t.Fatal("the image runs nothing")
	}
	line, _, _ := strings.Cut(text[at+len("\nCMD "):], "\n")
	var words []string
	if err := json.Unmarshal([]byte(line), &words); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if c := commandLine(t, words, root); !c.Server || !c.Bootstrap || c.DataDir != "/data" {
		t.Errorf("got %+v", c)
	}
}
