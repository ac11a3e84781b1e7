package check

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-sd/muster/health"
)

// run makes one run of a check, which has so much time.
func run(t testing.TB, c checker, limit time.Duration) (health.Status, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found := c.check(ctx)
	return found.status, found.output
}

const (
	// plenty is time for what must come to an end.
	plenty = 20 * time.Second
	// enough is time for a busy machine to come to where a peer or a script hangs.
	enough = 2 * time.Second
)

func TestHTTPAnswers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Sscan(r.PathValue("code"), &code)
		if code >= 300 && code < 400 {
			w.Header().Set("Location", "/status/200")
		}
		w.WriteHeader(code)
		io.WriteString(w, "said "+r.PathValue("code"))
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		for i := range 3000 {
			fmt.Fprintf(w, "line %d\n", i)
		}
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s host=%s agent=%s accept=%s probe=%s close=%v body=%s", r.Method, r.URL.Path, r.Host,
			r.Header.Get("User-Agent"), r.Header.Get("Accept"), r.Header["X-Probe"], r.Close, body)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	for _, c := range []struct {
		about  string
		check  Definition // HTTP is the path
		status health.Status
		output string // of the server's URL, $U stands
	}{
		{"200", Definition{HTTP: "/status/200"}, "passing", "HTTP GET $U/status/200: 200 OK Output: said 200"},
		{"299", Definition{HTTP: "/status/299"}, "passing", "HTTP GET $U/status/299: 299 status code 299 Output: said 299"},
		{"429", Definition{HTTP: "/status/429"}, "warning", "HTTP GET $U/status/429: 429 Too Many Requests Output: said 429"},
		{"404", Definition{HTTP: "/status/404"}, "critical", "HTTP GET $U/status/404: 404 Not Found Output: said 404"},
		{"503", Definition{HTTP: "/status/503"}, "critical", "HTTP GET $U/status/503: 503 Service Unavailable Output: said 503"},
		{"redirect", Definition{HTTP: "/status/302"}, "passing", "HTTP GET $U/status/302: 200 OK Output: said 200"},
		{"redirect that is judged itself", Definition{HTTP: "/status/302", DisableRedirects: true}, "critical",
			"HTTP GET $U/status/302: 302 Found Output: said 302"},
		{"redirects without end", Definition{HTTP: "/loop"}, "critical", `Get "/loop": stopped after 10 redirects`},
		{"the tail of a long body", Definition{HTTP: "/long", OutputMaxSize: 20}, "passing",
			"HTTP GET $U/long: 200 OK Output: line 2998\nline 2999\n"},
		{"defaults", Definition{HTTP: "/echo"}, "passing", "HTTP GET $U/echo: 200 OK Output: GET /echo host=" + host +
			" agent=Consul Health Check accept=text/plain, text/*, */* probe=[] close=true body="},
		{"all that can be asked", Definition{HTTP: "/echo", Method: "POST", Body: "ping", Header: map[string][]string{
			"host": {"other.example"}, "user-agent": {"me"}, "Accept": {"a/b"}, "x-probe": {"one", "two"}}}, "passing",
			"HTTP POST $U/echo: 200 OK Output: POST /echo host=other.example agent=me accept=a/b probe=[one two] close=true body=ping"},
		{"method that is none", Definition{HTTP: "/echo", Method: "A B"}, "critical", `net/http: invalid method "A B"`},
		{"header that is none", Definition{HTTP: "/echo", Header: map[string][]string{"X": {"a\nb"}}}, "critical",
			`Get "$U/echo": net/http: invalid header field value for "X"`},
	} {
		c.check.HTTP = server.URL + c.check.HTTP
		status, output := run(t, newHTTPChecker(&c.check, nil, c.check.outputLimit(0)), plenty)
		if want := strings.ReplaceAll(c.output, "$U", server.URL); status != c.status || output != want {
			t.Errorf("%s: got %s, %q\nwant %s, %q", c.about, status, output, c.status, want)
		}
	}
}

func TestHTTPHidesPassword(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()
	d := Definition{HTTP: strings.Replace(server.URL, "://", "://me:secret@", 1)}
	status, output := run(t, newHTTPChecker(&d, nil, 4096), plenty)
	if status != health.Passing || strings.Contains(output, "secret") {
		t.Errorf("got %s, %q", status, output)
	}
}

// serveTLS starts a server that says nothing about clients that distrust it.
func serveTLS() *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	return server
}

func TestHTTPCertificates(t *testing.T) {
	server := serveTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, c := range []struct {
		about  string
		check  Definition
		trust  bool
		status health.Status
		part   string
	}{
		{"unknown authority", Definition{}, false, "critical", "certificate signed by unknown authority"},
		{"not verified", Definition{TLSSkipVerify: true}, false, "passing", "200 OK"},
		{"known authority", Definition{}, true, "passing", "200 OK"},
		{"another name that it has", Definition{TLSServerName: "example.com"}, true, "passing", "200 OK"},
		{"a name that it has not", Definition{TLSServerName: "other.test"}, true, "critical", "not other.test"},
	} {
		c.check.HTTP = server.URL
		probe := newHTTPChecker(&c.check, nil, 4096)
		if c.trust {
			probe.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
		}
		status, output := run(t, probe, plenty)
		if status != c.status || !strings.Contains(output, c.part) {
			t.Errorf("%s: got %s, %q", c.about, status, output)
		}
	}
}

// peer is a server of raw connections that tells when all of them are gone.
type peer struct {
	address string
	open    sync.WaitGroup
}

// listen serves each connection by handle, and waits at the end of the test for
// the other side to hang up.
func listen(t testing.TB, handle func(net.Conn)) *peer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{address: listener.Addr().String()}
	p.open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.open.Go(func() {
				defer conn.Close()
				handle(conn)
				io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		gone := make(chan struct{})
		go func() { p.open.Wait(); close(gone) }()
		select {
		case <-gone:
		case <-time.After(plenty):
			t.Error("a connection was left open")
		}
	})
	return p
}

// answer reads a request and writes text.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, text)
	}
}

func TestHTTPBadPeers(t *testing.T) {
	hangs := map[string]bool{"says nothing": true, "a body that stops half-way": true, "a failure whose body stops": true}
	for _, c := range []struct {
		about  string
		handle func(net.Conn)
		status health.Status
		part   string
	}{
		{"says nothing", func(net.Conn) {}, "critical", "context deadline exceeded"},
		{"hangs up", func(c net.Conn) { answer("")(c); c.Close() }, "critical", "EOF"},
		{"garbage", answer("\x00\xff\x16garbage\r\n\r\n"), "critical", "malformed HTTP"},
		{"a header without end", func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\n")(c)
			for {
				if _, err := io.WriteString(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, "critical", "server response headers exceeded"},
		{"half a header", func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nX-")(c); c.Close() }, "critical", "malformed MIME header"},
		{"a body without end", func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\n\r\n")(c)
			for {
				if _, err := io.WriteString(c, strings.Repeat("more ", 1000)); err != nil {
					return
				}
			}
		}, "passing", "200 OK Output: "},
		{"a body that stops half-way", answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), "passing", "200 OK Output: half"},
		{"a body that is cut", func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")(c)
			c.Close()
		}, "passing", "200 OK Output: half"},
		{"bad chunks", func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n")(c)
		}, "passing", "200 OK Output: half"},
		{"a failure whose body stops", answer("HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nhalf"), "critical", "500 Oh Output: half"},
		{"a reason without end", answer("HTTP/1.1 200 " + strings.Repeat("O", 1000) + "\r\nContent-Length: 0\r\n\r\n"), "passing", "O Output: "},
	} {
		t.Run(c.about, func(t *testing.T) {
			t.Parallel()
			limit := plenty
			if hangs[c.about] {
				limit = enough
			}
			p := listen(t, c.handle)
			status, output := run(t, newHTTPChecker(&Definition{HTTP: "http://" + p.address}, nil, 200), limit)
			if status != c.status || !strings.Contains(output, c.part) {
				t.Errorf("got %s, %q", status, output)
			}
			if most := 200 + MaxStatusLine + 100; len(output) > most {
				t.Errorf("the output has %d bytes, want at most %d", len(output), most)
			}
		})
	}
	t.Run("no TLS after the connection", func(t *testing.T) {
		t.Parallel()
		p := listen(t, func(net.Conn) {})
		status, output := run(t, newHTTPChecker(&Definition{HTTP: "https://" + p.address}, nil, 100), enough)
		if status != health.Critical || !strings.Contains(output, "context deadline exceeded") {
			t.Errorf("got %s, %q", status, output)
		}
	})
}

// BenchmarkHTTPCheck is the cost of one run; its ceiling is a bare client
// without keep-alive that asks the same server.
func BenchmarkHTTPCheck(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer server.Close()
	b.Run("check", func(b *testing.B) {
		probe := newHTTPChecker(&Definition{HTTP: server.URL}, nil, 4096)
		b.ReportAllocs()
		for b.Loop() {
			if status, output := run(b, probe, plenty); status != health.Passing {
				b.Fatal(output)
			}
		}
	})
	b.Run("ceiling", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		b.ReportAllocs()
		for b.Loop() {
			answer, err := client.Get(server.URL)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
	})
}

// FuzzHTTPAnswer feeds a check what a hostile server might say.
func FuzzHTTPAnswer(f *testing.F) {
	for _, seed := range []string{"HTTP/1.1 200 OK\r\n\r\nx", "HTTP/1.1 301 Y\r\nLocation: /x\r\n\r\n", "\x16\x03", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		client, server := net.Pipe()
		var served sync.WaitGroup
		served.Go(func() {
			defer server.Close()
			http.ReadRequest(bufio.NewReader(server))
			server.SetDeadline(time.Now().Add(time.Second))
			server.Write(text)
		})
		probe := newHTTPChecker(&Definition{HTTP: "http://x/", DisableRedirects: true}, nil, 64)
		probe.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return client, nil }
		status, output := run(t, probe, 2*time.Second)
		served.Wait()
		if status != health.Passing && status != health.Warning && status != health.Critical || len(output) > 64+MaxStatusLine+100 {
			t.Errorf("%q gave %s, %q", text, status, output)
		}
	})
}
