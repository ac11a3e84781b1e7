package agent

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-sd/muster/agent/config"
)

func socketAgent(c *config.Config) *Agent {
	return &Agent{config: c, logger: slog.New(slog.DiscardHandler)}
}

func TestUnixSocketGetsItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "http.sock")
	l, err := socketAgent(&config.Config{UnixSocketMode: "0640"}).listenHTTP("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o640 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

func TestUnixSocketOwners(t *testing.T) {
	for _, c := range []struct {
		name   string
		config config.Config
		want   string
	}{
		{"an unknown user", config.Config{UnixSocketUser: "no-such-user"}, `unix_sockets.user "no-such-user"`},
		{"an unknown group", config.Config{UnixSocketGroup: "no-such-group"}, `unix_sockets.group "no-such-group"`},
		{"a mode that is no number", config.Config{UnixSocketMode: "rw"}, `unix_sockets.mode "rw"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "http.sock")
			if _, err := socketAgent(&c.config).listenHTTP("unix://" + path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket stays: %v", err)
			}
		})
	}
}

// abandon leaves a socket that nobody listens on, as a process that was killed
// does.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatStandsInTheWayOfASocket(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"a socket that was left behind", abandon, ""},
		{"a socket that somebody listens on", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "another process listens there"},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		{"an empty folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		{"a link to a file", func(t *testing.T, path string) {
			if err := os.Symlink("/etc/hostname", path); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "http.sock")
			c.make(t, path)
			l, err := socketAgent(&config.Config{}).listenHTTP("unix://" + path)
			if err == nil {
				defer l.Close()
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "":
			case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "addresses.http"):
				t.Errorf("got %v, want %q", err, c.want)
			default:
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("it was removed: %v", err)
				}
			}
		})
	}
}

func TestBindNamesTheSettingOfAPortInUse(t *testing.T) {
	taken := listenLocal(t)
	defer taken.Close()
	a := socketAgent(&config.Config{})
	if _, err := a.listenHTTP(taken.Addr().String()); err == nil || !strings.Contains(err.Error(), "ports.http") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("HTTP: %v", err)
	}
	if err := a.listenDNS(taken.Addr().String()); err == nil || !strings.Contains(err.Error(), "ports.dns") {
		t.Errorf("DNS: %v", err)
	}
	if err := a.undo.run(stopLimit); err != nil {
		t.Error(err)
	}
}

func TestDNSGetsOnePortForBothKinds(t *testing.T) {
	a := socketAgent(&config.Config{})
	if err := a.listenDNS("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if packets, streams := a.sockets.DNSPackets[0].LocalAddr().String(), a.sockets.DNSStreams[0].Addr().String(); packets != streams {
		t.Errorf("UDP has %s, TCP %s", packets, streams)
	}
	for range 2 {
		if err := a.undo.run(stopLimit); err != nil {
			t.Error(err)
		}
	}
}
