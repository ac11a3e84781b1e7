package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// defaultDockerHost is where the Docker API is unless the environment says
// otherwise.
const defaultDockerHost = "unix:///var/run/docker.sock"

// dockerChecker runs a command in a container through the Docker API.
type dockerChecker struct {
	client    *http.Client
	base      string // of the API's addresses
	container string
	args      []string
	timeout   time.Duration
	limit     int
}

func newDockerChecker(d *Definition, limit int) (*dockerChecker, error) {
	transport, base, err := dockerHost(os.Getenv)
	if err != nil {
		return nil, err
	}
	return &dockerChecker{
		client:    &http.Client{Transport: transport},
		base:      base,
		container: d.DockerContainerID,
		args:      d.ScriptArgs,
		timeout:   d.timeout(),
		limit:     limit,
	}, nil
}

// dockerHost reads the environment as Docker's own clients do: DOCKER_HOST,
// DOCKER_TLS_VERIFY and DOCKER_CERT_PATH.
func dockerHost(env func(string) string) (*http.Transport, string, error) {
	host := env("DOCKER_HOST")
	if host == "" {
		host = defaultDockerHost
	}
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: MaxResponseHeader,
	}
	scheme, address, _ := strings.Cut(host, "://")
	switch scheme {
	case "unix":
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", address)
		}
		return transport, "http://docker", nil
	case "http", "tcp":
		if env("DOCKER_TLS_VERIFY") == "" {
			return transport, "http://" + address, nil
		}
	case "https":
	default:
		return nil, "", invalid("Invalid check: DOCKER_HOST is %q, but must begin with unix://, tcp://, http:// or https://", host)
	}
	if folder := env("DOCKER_CERT_PATH"); folder != "" {
		config, err := dockerTLS(folder)
		if err != nil {
			return nil, "", invalid("Invalid check: cannot use the certificates of DOCKER_CERT_PATH: %v", err)
		}
		transport.TLSClientConfig = config
	}
	return transport, "https://" + address, nil
}

// dockerTLS reads the authority, certificate and key of a Docker client.
func dockerTLS(folder string) (*tls.Config, error) {
	authority, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(folder, "ca.pem"))
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{own}}, nil
}

func (c *dockerChecker) check(ctx context.Context) result {
	defer c.client.CloseIdleConnections()
	output := &tail{limit: c.limit}
	code, err := c.run(ctx, output)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut(c.timeout, output)
	case err != nil:
		return failed(err, c.limit)
	}
	return exited(code, output)
}

// run makes, starts and inspects a command in the container.
func (c *dockerChecker) run(ctx context.Context, output *tail) (code int, err error) {
	var made struct{ ID string }
	wish := map[string]any{"AttachStdout": true, "AttachStderr": true, "Cmd": c.args}
	if err := c.ask(ctx, "/containers/"+url.PathEscape(c.container)+"/exec", wish, &made); err != nil {
		return 0, err
	}
	if made.ID == "" {
		return 0, errors.New("Docker API: the command has no ID")
	}
	command := "/exec/" + url.PathEscape(made.ID)
	if err := c.start(ctx, command, output); err != nil {
		return 0, err
	}
	for {
		var state struct {
			Running  bool
			ExitCode *int
		}
		if err := c.ask(ctx, command+"/json", nil, &state); err != nil {
			return 0, err
		}
		if !state.Running && state.ExitCode != nil {
			return *state.ExitCode, nil
		}
		if pause(ctx, DockerPoll); ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// start starts a command and reads what it writes until that ends.
func (c *dockerChecker) start(ctx context.Context, command string, output *tail) error {
	answer, err := c.send(ctx, command+"/start", map[string]any{"Detach": false, "Tty": false})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	err = demultiplex(output, io.LimitReader(answer.Body, MaxCommandRead))
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// frameHeader is how many bytes the header of a frame has: the stream that it
// belongs to, three zeros, and the length of what follows.
const frameHeader = 8

// demultiplex writes the content of Docker's frames, of whichever stream, to w.
func demultiplex(w io.Writer, r io.Reader) error {
	var header [frameHeader]byte
	for {
		if _, err := io.ReadFull(r, header[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("Docker API: the output of the command is cut off: %w", err)
		}
		if header[0] > 2 || header[1]|header[2]|header[3] != 0 {
			return fmt.Errorf("Docker API: the output of the command has a frame that begins with %x", header[:4])
		}
		length := int64(binary.BigEndian.Uint32(header[4:]))
		if n, err := io.CopyN(w, r, length); err != nil {
			return fmt.Errorf("Docker API: a frame of the command's output has %d bytes of %d: %w", n, length, err)
		}
	}
}

// ask sends a request and decodes the answer.
func (c *dockerChecker) ask(ctx context.Context, path string, wish, into any) error {
	answer, err := c.send(ctx, path, wish)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(io.LimitReader(answer.Body, MaxDockerAnswer)).Decode(into); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("Docker API: cannot read the answer of %s: %w", path, err)
	}
	return nil
}

// send sends a request: a wish is posted, without one something is asked for. An
// answer that is not good becomes an error.
func (c *dockerChecker) send(ctx context.Context, path string, wish any) (*http.Response, error) {
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if wish != nil {
		text, err := json.Marshal(wish)
		if err != nil {
			return nil, err
		}
		method, body = http.MethodPost, bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("Docker API: %w", err)
	}
	if answer.StatusCode >= 200 && answer.StatusCode <= 299 {
		return answer, nil
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, DefaultOutputMaxSize))
	var fault struct{ Message string }
	if json.Unmarshal(text, &fault) != nil || fault.Message == "" {
		fault.Message = strings.TrimSpace(string(text))
	}
	return nil, fmt.Errorf("Docker API: %s %s: %d: %s", method, path, answer.StatusCode, fault.Message)
}
