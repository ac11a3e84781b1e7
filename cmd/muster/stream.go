package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

// untilInterrupted is a context that ends when the user, or the system, asks the
// process to.
func untilInterrupted() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// open asks the agent for an answer that is read while it arrives: one that may
// be larger than the memory, or has no end. silence is how long the agent may
// send nothing while somebody reads; zero is no limit. ctx ends the stream.
// What is special in a URL must be escaped in path.
func (c *connection) open(ctx context.Context, path string, parameters url.Values, silence time.Duration) (*stream, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	if c.datacenter != "" {
		parameters.Set("dc", string(c.datacenter))
	}
	if c.stale {
		parameters.Set("stale", "")
	}
	target := baseURL(config) + path
	if len(parameters) > 0 {
		target += "?" + parameters.Encode()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("cannot use the address %q: %w", c.serverAddress(), err)
	}
	request.Header.Set("X-Consul-Token", config.Token)
	if config.HttpAuth != nil {
		request.SetBasicAuth(config.HttpAuth.Username, config.HttpAuth.Password)
	}
	stream := &stream{ctx: ctx, cancel: cancel, silence: silence}
	config.HttpClient.Timeout = 0 // the answer may well take longer than any other
	if err := stream.start(config.HttpClient, request); err != nil {
		cancel(nil)
		return nil, err
	}
	return stream, nil
}

// stream is an answer that is still arriving.
type stream struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	silence time.Duration
	body    io.ReadCloser
	header  http.Header // of the answer
}

// start sends the request and waits for the head of the answer.
func (s *stream) start(client *http.Client, request *http.Request) error {
	defer s.watch()()
	response, err := client.Do(request)
	if err != nil {
		return s.explain(err)
	}
	if response.StatusCode == http.StatusOK {
		s.body, s.header = response.Body, response.Header
		return nil
	}
	defer response.Body.Close()
	text, err := readLimited(response.Body, maxErrorBody)
	if err != nil {
		text = []byte(s.explain(err).Error())
	}
	return api.StatusError{Code: response.StatusCode, Body: string(text)}
}

// Read waits for the next piece.
func (s *stream) Read(p []byte) (int, error) {
	defer s.watch()()
	n, err := s.body.Read(p)
	if err != nil && err != io.EOF {
		err = s.explain(err)
	}
	return n, err
}

// Close ends the stream, whether all of it was read or not.
func (s *stream) Close() error {
	s.cancel(nil)
	return s.body.Close()
}

// watch ends the stream if nothing comes until the returned function is called.
func (s *stream) watch() (stop func()) {
	if s.silence == 0 {
		return func() {}
	}
	timer := time.AfterFunc(s.silence, func() {
		s.cancel(fmt.Errorf("the agent sent nothing for %s", s.silence))
	})
	return func() { timer.Stop() }
}

// explain replaces the error of a request that was ended on purpose by the
// purpose.
func (s *stream) explain(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return err
}
