package local

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/health/check"
)

// world is what checks of each kind look at. It is in one state at a time.
type world struct {
	state  atomic.Value // health.Status
	file   string
	grpc   *healthserver.Server
	docker string
	web    string
}

// set changes the state of everything.
func (w *world) set(t *testing.T, s health.Status) {
	t.Helper()
	w.state.Store(s)
	code := map[health.Status]string{"passing": "0", "warning": "1", "critical": "2"}[s]
	if err := os.WriteFile(w.file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	serving := grpc_health_v1.HealthCheckResponse_SERVING
	if s == health.Critical {
		serving = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	w.grpc.SetServingStatus("", serving)
}

func newWorld(t *testing.T) *world {
	w := &world{file: filepath.Join(t.TempDir(), "code"), grpc: healthserver.NewServer()}
	w.set(t, health.Critical)
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(map[health.Status]int{"passing": 200, "warning": 429, "critical": 503}[w.state.Load().(health.Status)])
	}))
	t.Cleanup(web.Close)
	w.web = web.URL
	docker := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		code, _ := os.ReadFile(w.file)
		switch {
		case strings.HasPrefix(r.URL.Path, "/containers/"):
			io.WriteString(rw, `{"Id":"x"}`)
		case strings.HasSuffix(r.URL.Path, "/json"):
			fmt.Fprintf(rw, `{"Running":false,"ExitCode":%s}`, code)
		}
	}))
	t.Cleanup(docker.Close)
	w.docker = strings.Replace(docker.URL, "http://", "tcp://", 1)
	return w
}

// gate lets connections of TCP through while the world is not critical: it
// listens only then.
func (w *world) gate(t *testing.T, handler http.Handler) (address string, follow func()) {
	var server *http.Server
	alone := "127.0.0.1:0"
	if runtime.GOOS == "linux" {
		alone = "127.0.0.77:0" // where nobody else takes the port while it is shut
	}
	listener, err := net.Listen("tcp", alone)
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	t.Cleanup(func() {
		if server != nil {
			server.Close()
		}
	})
	return address, func() {
		if open := w.state.Load() != health.Critical; open && server == nil {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			server = &http.Server{Handler: handler, Protocols: new(http.Protocols)}
			server.Protocols.SetUnencryptedHTTP2(true)
			go server.Serve(listener)
		} else if !open && server != nil {
			server.Close()
			server = nil
		}
	}
}

// TestEachKind takes a check of each kind through its states, and sees the
// catalog follow within an interval and a second.
func TestEachKind(t *testing.T) {
	const interval = time.Second
	w := newWorld(t)
	t.Setenv("DOCKER_HOST", w.docker)
	address, follow := w.gate(t, http.NotFoundHandler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, w.grpc)
	go server.Serve(listener)
	defer server.Stop()

	cat := newFakeCatalog()
	r := open(t, Config{EnableScriptChecks: true})
	stop := running(r, cat)
	defer stop()
	kinds := map[string]check.Definition{
		"http":   {HTTP: w.web},
		"tcp":    {TCP: address},
		"h2ping": {H2PING: address},
		"grpc":   {GRPC: listener.Addr().String()},
		"script": {ScriptArgs: []string{"sh", "-c", "exit $(cat " + w.file + ")"}},
		"docker": {DockerContainerID: "c", ScriptArgs: []string{"probe"}},
		"ttl":    {TTL: time.Hour},
	}
	knowsWarning := map[string]bool{"http": true, "script": true, "docker": true, "ttl": true}
	var ids []string
	for kind, d := range kinds {
		d.ID = kind
		if kind != "ttl" {
			d.Interval = interval
		}
		add(t, r, web("of-"+kind, d))
		alias := check.Definition{ID: "alias-" + kind, Name: kind, AliasService: "of-" + kind, ServiceID: "of-" + kind}
		if err := r.AddCheck(t.Context(), alias); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, kind, "alias-"+kind)
	}
	for _, state := range []health.Status{"passing", "warning", "critical", "passing"} {
		w.set(t, state)
		follow()
		if err := r.UpdateTTL(t.Context(), "ttl", state, ""); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		for _, id := range ids {
			want := state
			if want == health.Warning && !knowsWarning[strings.TrimPrefix(id, "alias-")] {
				want = health.Passing
			}
			for cat.status(id) != want {
				if took := time.Since(changed); took > 20*time.Second {
					t.Fatalf("%s is %s in the catalog %s after everything turned %s", id, cat.status(id), took, state)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if took := time.Since(changed); took > interval+time.Second {
			t.Logf("the catalog followed to %s after %s, which is more than an interval and a second", state, took)
		}
	}
}

// status is what the catalog knows of a check.
func (f *fakeCatalog) status(id string) health.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.checks[id]; c != nil {
		return c.Status
	}
	return ""
}
