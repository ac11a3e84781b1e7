package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// bySnapshots serves an endpoint that needs the agent's snapshots.
func bySnapshots(serve handler) handler {
	return func(c *call) (any, error) {
		if c.h.Snapshots == nil {
			return unimplemented(c)
		}
		return serve(c)
	}
}

// saveSnapshot sends the whole state as an archive.
func saveSnapshot(c *call) (any, error) {
	o, err := c.readNow()
	if err != nil {
		return nil, err
	}
	out := &download{call: c, connection: http.NewResponseController(c.w)}
	err = c.h.Snapshots.Save(c.r.Context(), o, out.begin)
	switch {
	case err == nil && out.began:
		out.end()
		return streamed{}, nil
	case err == nil:
		return nil, errors.New("nothing was saved")
	case !out.began:
		return nil, err
	}
	// The header of success is out: only a broken connection still says that the
	// archive is not whole.
	c.h.Logger.Warn("A snapshot could not be sent to its end", "to", c.r.RemoteAddr, "error", err)
	panic(http.ErrAbortHandler)
}

// download is an archive on its way to a client.
type download struct {
	call       *call
	connection *http.ResponseController
	began      bool
}

// begin sends the header.
func (d *download) begin(m mvcc.Meta) io.Writer {
	d.began = true
	d.call.setMeta(m, false)
	d.call.w.Header()["Content-Type"] = valueArchive
	d.call.w.WriteHeader(http.StatusOK)
	return d
}

// Write sends a piece. A client has to take each in a limited time: the state
// that is being sent is held as long.
func (d *download) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		// What is no connection, as in tests, has no deadline either.
		_ = d.connection.SetWriteDeadline(time.Now().Add(pieceTime))
		n, err := d.call.w.Write(p[sent:min(sent+maxPiece, len(p))])
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// end sends what is still held back, and leaves the connection to others.
func (d *download) end() {
	_ = d.connection.SetWriteDeadline(time.Now().Add(pieceTime))
	// A client that is gone cannot be told.
	_ = d.connection.Flush()
	_ = d.connection.SetWriteDeadline(time.Time{})
}

// restoreSnapshot replaces the whole state by that of an archive.
func restoreSnapshot(c *call) (any, error) {
	if c.r.ContentLength > maxRestore {
		return nil, archiveTooLarge()
	}
	in := &upload{
		body:       http.MaxBytesReader(c.w, c.r.Body, maxRestore),
		connection: http.NewResponseController(c.w),
	}
	in.renew()
	if err := c.h.Snapshots.Restore(c.r.Context(), c.datacenter(), in); err != nil {
		return nil, in.explain(err)
	}
	return octets{}, nil
}

func archiveTooLarge() error {
	return tooLarge("Request body too large, max size of a snapshot: %d bytes", int64(maxRestore))
}

// upload is an archive that comes from a client, as fast as the limits ask for.
type upload struct {
	body       io.Reader
	connection *http.ResponseController
	received   int64 // since the time began anew
	failed     error
}

// renew lets the time for the next piece begin. What is no connection, as in
// tests, has no deadline.
func (u *upload) renew() {
	u.received = 0
	_ = u.connection.SetReadDeadline(time.Now().Add(pieceTime))
}

// Read waits for the next bytes.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	if u.received += int64(n); u.received >= maxPiece {
		u.renew()
	}
	switch {
	case err == io.EOF:
		// All is here. What is done with it takes its own time.
		_ = u.connection.SetReadDeadline(time.Time{})
	case err != nil:
		u.failed = err
	}
	return n, err
}

// explain returns the refusal of an archive that did not arrive, or else err.
func (u *upload) explain(err error) error {
	var over *http.MaxBytesError
	switch {
	case errors.As(u.failed, &over):
		return archiveTooLarge()
	case errors.Is(u.failed, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "The snapshot came too slowly: each %d bytes must be received within %s", maxPiece, pieceTime)
	case u.failed != nil:
		return badRequest("Cannot read the request body: %v", u.failed)
	}
	return err
}
