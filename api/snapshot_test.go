package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

type mockSnapshots struct {
	save    func(mvcc.ReadOptions, func(mvcc.Meta) io.Writer) error
	restore func(dc string, r io.Reader) error
}

func (m *mockSnapshots) Save(_ context.Context, o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
	return m.save(o, begin)
}
func (m *mockSnapshots) Restore(_ context.Context, dc string, r io.Reader) error {
	return m.restore(dc, r)
}

func TestSaveSnapshot(t *testing.T) {
	m := newMocks()
	var asked []mvcc.ReadOptions
	m.snapshots.save = func(o mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
		asked = append(asked, o)
		switch {
		case o.Datacenter != "":
			return noPath
		case o.Mode == mvcc.Consistent:
			return nil
		}
		w := begin(mvcc.Meta{Index: 41, KnownLeader: o.Mode != mvcc.Stale, LastContact: 3 * time.Second})
		for range 3 {
			if _, err := io.WriteString(w, strings.Repeat("x", maxPiece)); err != nil {
				return err
			}
		}
		return nil
	}
	h := m.handler(t)
	for _, c := range []struct{ query, leader string }{{"", "true"}, {"?stale&index=7", "false"}} {
		w := do(t, h, "GET /v1/snapshot"+c.query, "", "Accept-Encoding", "gzip")
		if w.Code != 200 || w.Body.Len() != 3*maxPiece {
			t.Errorf("%q: status %d with %d bytes", c.query, w.Code, w.Body.Len())
		}
		for name, want := range map[string]string{"Content-Type": "application/x-gzip", "Content-Encoding": "", "X-Consul-Index": "41",
			"X-Consul-Knownleader": c.leader, "X-Consul-Lastcontact": "3000"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%q: %s is %q, want %q", c.query, name, got, want)
			}
		}
	}
	run(t, h, []exchange{
		{request: "GET /v1/snapshot?dc=x", status: 500, body: "No path to datacenter"},
		{request: "GET /v1/snapshot?consistent", status: 500, body: "nothing was saved"},
		{request: "GET /v1/snapshot?stale&consistent", status: 400, body: textStaleConsistent},
		{request: "POST /v1/snapshot", status: 405, body: "method POST not allowed"},
	})
	want := []mvcc.ReadOptions{{}, {Mode: mvcc.Stale}, {Datacenter: "x"}, {Mode: mvcc.Consistent}}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

// A client must not take the first half of an archive for the whole.
func TestSaveSnapshotBreaks(t *testing.T) {
	m := newMocks()
	m.snapshots.save = func(_ mvcc.ReadOptions, begin func(mvcc.Meta) io.Writer) error {
		if _, err := io.WriteString(begin(here), "half"); err != nil {
			t.Error(err)
		}
		return errors.New("the disk is gone")
	}
	server := httptest.NewUnstartedServer(m.handler(t))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.Start()
	defer server.Close()
	answer, err := http.Get(server.URL + "/v1/snapshot")
	if err == nil {
		var body []byte
		body, err = io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil {
			t.Errorf("got %d %q without an error", answer.StatusCode, body)
		}
	}
}

func TestRestoreSnapshot(t *testing.T) {
	m := newMocks()
	var got []string
	m.snapshots.restore = func(dc string, r io.Reader) error {
		if dc == "x" {
			return noPath
		}
		archive, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("cannot read it: %v", err)
		}
		got = append(got, dc+" "+string(archive))
		if string(archive) == "broken" {
			return &mvcc.Error{Code: mvcc.Invalid, Text: "failed to decompress snapshot: gzip: invalid header"}
		}
		return nil
	}
	h := m.handler(t)
	run(t, h, []exchange{
		{request: "PUT /v1/snapshot", send: "archive", status: 200},
		{request: "PUT /v1/snapshot?dc=dc1", send: "archive", status: 200},
		{request: "PUT /v1/snapshot?dc=x", send: "archive", status: 500, body: "No path to datacenter"},
		{request: "PUT /v1/snapshot", send: "broken", status: 500, body: "failed to decompress snapshot: gzip: invalid header"},
	})
	if want := " archive;dc1 archive; broken"; strings.Join(got, ";") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	header := do(t, h, "PUT /v1/snapshot", "archive").Header()
	if header.Get("Content-Type") != "application/octet-stream" || header.Get("Content-Length") != "0" {
		t.Errorf("the answer has the headers %v", header)
	}
}

func TestRestoreRefusesBodies(t *testing.T) {
	m := newMocks()
	m.snapshots.restore = func(_ string, r io.Reader) error {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return errors.New("the archive ends too early")
		}
		return nil
	}
	h := m.handler(t)
	send := func(length int64, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPut, "/v1/snapshot", body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name   string
		length int64
		body   io.Reader
		status int
		text   string
	}{
		{"too large as declared", maxRestore + 1, strings.NewReader("x"), 413, "Request body too large, max size of a snapshot: 1077936128 bytes"},
		{"too large in chunks", -1, iotest.ErrReader(&http.MaxBytesError{Limit: maxRestore}), 413, "Request body too large, max size of a snapshot: 1077936128 bytes"},
		{"too slow", -1, iotest.ErrReader(os.ErrDeadlineExceeded), 408, "The snapshot came too slowly: each 1048576 bytes must be received within 1m0s"},
		{"broken off", 10, iotest.ErrReader(io.ErrUnexpectedEOF), 400, "Cannot read the request body: unexpected EOF"},
	} {
		if w := send(c.length, c.body); w.Code != c.status || w.Body.String() != c.text {
			t.Errorf("%s: got %d %q, want %d %q", c.name, w.Code, w.Body, c.status, c.text)
		}
	}
}

// deadlines is a connection that keeps count of the times it was given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []bool // whether each was a time, or none
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, !at.IsZero())
	return nil
}

// The time for a body begins anew with each piece, and ends with the body.
func TestRestoreGivesTimeByThePiece(t *testing.T) {
	m := newMocks()
	m.snapshots.restore = func(_ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	body := strings.NewReader(strings.Repeat("x", 3*maxPiece+1))
	m.handler(t).ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v1/snapshot", body))
	if got, want := fmt.Sprint(w.set), "[true true true true false]"; w.Code != 200 || got != want {
		t.Errorf("status %d; deadlines %s, want %s", w.Code, got, want)
	}
}
