package api

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// streamed is the value of a handler that has written its answer itself.
type streamed struct{}

// stream is an answer that goes on until the client or the agent ends it. What
// is written goes out at once.
type stream struct {
	flush *http.ResponseController
	out   io.Writer
	zip   *gzip.Writer // nil if the client does not take gzip
}

// stream begins an answer of status 200 and sends its header.
func (c *call) stream(contentType string) *stream {
	s := &stream{flush: http.NewResponseController(c.w), out: c.w}
	header := c.w.Header()
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	if acceptsGzip(c.r.Header) {
		header.Set("Content-Encoding", "gzip")
		s.zip = gzip.NewWriter(c.w)
		s.out = s.zip
	}
	c.w.WriteHeader(http.StatusOK)
	_ = s.flush.Flush()
	return s
}

// write sends b. An error means that the client is gone.
func (s *stream) write(b []byte) error {
	if _, err := s.out.Write(b); err != nil {
		return err
	}
	if s.zip != nil {
		if err := s.zip.Flush(); err != nil {
			return err
		}
	}
	return s.flush.Flush()
}

// object sends a value as indented JSON on lines of its own.
func (s *stream) object(v any) error {
	body, err := json.MarshalIndent(v, "", "    ")
	if err != nil {
		return err
	}
	return s.write(append(body, '\n'))
}

// close ends the answer.
func (s *stream) close() {
	if s.zip != nil {
		// A client that is gone cannot be told.
		_ = s.zip.Close()
	}
}

// untilDrained is the request's context, which also ends when the agent wants
// waiting readers answered.
func (c *call) untilDrained() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.r.Context())
	stop := context.AfterFunc(c.h.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// levelTrace is below debug: what libraries say of each step.
const levelTrace = slog.LevelDebug - 4

// logLevel reads a level by its name; none is info.
func logLevel(name string) (slog.Level, bool) {
	switch strings.ToLower(name) {
	case "":
		return slog.LevelInfo, true
	case "trace":
		return levelTrace, true
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "err", "error":
		return slog.LevelError, true
	}
	return 0, false
}

// agentMonitor sends the agent's log line by line, at a level of its own.
func agentMonitor(c *call) (any, error) {
	level, ok := logLevel(c.value("loglevel"))
	if !ok {
		return nil, badRequest("Unknown log level: %s", c.value("loglevel"))
	}
	ctx, cancel := c.untilDrained()
	defer cancel()
	lines, err := c.h.Telemetry.Monitor(ctx, level, c.has("logjson"))
	if err != nil {
		return nil, err
	}
	out := c.stream("text/plain; charset=utf-8")
	defer out.close()
	for {
		select {
		case line := <-lines:
			if out.write(line) != nil {
				return streamed{}, nil
			}
		case <-ctx.Done():
			return streamed{}, nil
		}
	}
}
