package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// defaultAddress is where an agent listens unless it is told otherwise.
const defaultAddress = "127.0.0.1:8500"

// sharedFlag marks the flags that many commands have, so that help can list
// them after the command's own.
type sharedFlag interface{ shared() }

// sharedString and sharedBool are flags of that kind.
type (
	sharedString string
	sharedBool   bool
)

func (s *sharedString) String() string         { return string(*s) }
func (s *sharedString) Set(value string) error { *s = sharedString(value); return nil }
func (s *sharedString) shared()                {}

func (b *sharedBool) String() string   { return strconv.FormatBool(bool(*b)) }
func (b *sharedBool) IsBoolFlag() bool { return true }
func (b *sharedBool) shared()          {}
func (b *sharedBool) Set(value string) error {
	parsed, err := strconv.ParseBool(value)
	*b = sharedBool(parsed)
	return err
}

// connection is how to reach an agent, as the flags of a command say; the
// environment says what they leave open.
type connection struct {
	address       sharedString
	token         sharedString
	tokenFile     sharedString
	caFile        sharedString
	caPath        sharedString
	clientCert    sharedString
	clientKey     sharedString
	tlsServerName sharedString
	datacenter    sharedString
	stale         sharedBool
	// ignored takes the flags that only make sense with namespaces and
	// partitions, which Muster does not have: scripts may give them.
	ignored sharedString

	// lookup reads the environment; nil means that of the process.
	lookup func(name string) string
}

// define declares the flags of every command that talks to an agent.
func (c *connection) define(flags *flag.FlagSet) {
	flags.Var(&c.address, "http-addr", "The `address` of the agent's HTTP interface: host:port, or a URL with http://, https:// or unix://.\nA path before /v1 may follow. Or set MUSTER_HTTP_ADDR. Default: "+defaultAddress+".")
	flags.Var(&c.token, "token", "The `secret` of an ACL token. Or set MUSTER_HTTP_TOKEN.")
	flags.Var(&c.tokenFile, "token-file", "A `file` that holds the secret; it counts before -token. Or set MUSTER_HTTP_TOKEN_FILE.")
	flags.Var(&c.caFile, "ca-file", "A `file` of certificate authorities to trust. Or set MUSTER_CACERT.")
	flags.Var(&c.caPath, "ca-path", "A `folder` of certificate authorities to trust. Or set MUSTER_CAPATH.")
	flags.Var(&c.clientCert, "client-cert", "A `file` with the certificate to present. Or set MUSTER_CLIENT_CERT.")
	flags.Var(&c.clientKey, "client-key", "A `file` with the key of that certificate. Or set MUSTER_CLIENT_KEY.")
	flags.Var(&c.tlsServerName, "tls-server-name", "The `name` to expect in the agent's certificate. Or set MUSTER_TLS_SERVER_NAME.")
	flags.Var(&c.ignored, "partition", "Accepted and ignored: there are no `partitions`.")
}

// defineServer declares the flags of commands whose answer comes from a server.
func (c *connection) defineServer(flags *flag.FlagSet) {
	flags.Var(&c.datacenter, "datacenter", "The `name` of the datacenter to ask, if not the agent's own.")
	flags.Var(&c.stale, "stale", "Let any server answer from what it knows, even without a leader.")
	flags.Var(&c.ignored, "namespace", "Accepted and ignored: there are no `namespaces`.")
}

// query is how to read.
func (c *connection) query() *api.QueryOptions {
	return &api.QueryOptions{AllowStale: bool(c.stale)}
}

// environment reads a setting: of MUSTER_<name> and CONSUL_<name>, the first
// that is set, and not empty, counts.
func (c *connection) environment(name string) string {
	lookup := c.lookup
	if lookup == nil {
		lookup = os.Getenv
	}
	if value := lookup("MUSTER_" + name); value != "" {
		return value
	}
	return lookup("CONSUL_" + name)
}

// environmentBool reads a setting that is true or false.
func (c *connection) environmentBool(name string, missing bool) (bool, error) {
	text := c.environment(name)
	if text == "" {
		return missing, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return missing, fmt.Errorf("the environment variable for %s must be true or false, not %q", name, text)
	}
	return value, nil
}

// either is the flag, or else the environment.
func (c *connection) either(given sharedString, name string) string {
	if given != "" {
		return string(given)
	}
	return c.environment(name)
}

// client makes a client for the agent that flags and environment name.
func (c *connection) client() (*api.Client, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("cannot use the address %q: %w", c.serverAddress(), err)
	}
	return client, nil
}

// config is how to reach the agent that flags and environment name.
func (c *connection) config() (*api.Config, error) {
	token, err := c.secret()
	if err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	address := c.serverAddress()
	scheme := "http"
	switch useTLS, err := c.environmentBool("HTTP_SSL", false); {
	case err != nil:
		return nil, err
	case useTLS:
		scheme = "https"
	}
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		dialSocket(transport, socket)
		address, scheme = "localhost", "http"
	}
	return &api.Config{
		// With a slash at its end, the library would ask for //v1, and so the host v1.
		Address:    strings.TrimRight(address, "/"),
		Scheme:     scheme,
		Token:      unresolvedToken,
		Datacenter: string(c.datacenter),
		HttpAuth:   c.basicAuth(),
		HttpClient: &http.Client{
			Transport: &resolvedTransport{base: transport, token: token},
			Timeout:   requestTimeout,
		},
	}, nil
}

// baseURL is what stands before the path of every request, as the client
// library reads an address: its own scheme counts, except that TLS is never
// given up, and a path may follow the host.
func baseURL(config *api.Config) string {
	scheme, host, ok := strings.Cut(config.Address, "://")
	if !ok {
		scheme, host = config.Scheme, config.Address
	}
	if config.Scheme == "https" {
		scheme = "https"
	}
	return scheme + "://" + strings.TrimSuffix(host, "/")
}

// serverAddress is where the agent is expected, as the user wrote it.
func (c *connection) serverAddress() string {
	if address := c.either(c.address, "HTTP_ADDR"); address != "" {
		return address
	}
	return defaultAddress
}

// secret is the token to present. A file counts before a literal, and what the
// flags say before the environment.
func (c *connection) secret() (string, error) {
	switch {
	case c.tokenFile != "":
		return readToken(string(c.tokenFile))
	case c.token != "":
		return string(c.token), nil
	}
	if path := c.environment("HTTP_TOKEN_FILE"); path != "" {
		return readToken(path)
	}
	return c.environment("HTTP_TOKEN"), nil
}

func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the token file: %w", err)
	}
	defer file.Close()
	content, err := readLimited(file, maxTokenFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the token file %s: %w", path, err)
	}
	return strings.TrimSpace(string(content)), nil
}

func (c *connection) basicAuth() *api.HttpBasicAuth {
	auth := c.environment("HTTP_AUTH")
	if auth == "" {
		return nil
	}
	user, password, _ := strings.Cut(auth, ":")
	return &api.HttpBasicAuth{Username: user, Password: password}
}

// transport is set up for TLS as flags and environment say.
func (c *connection) transport() (*http.Transport, error) {
	verify, err := c.environmentBool("HTTP_SSL_VERIFY", true)
	if err != nil {
		return nil, err
	}
	config, err := api.SetupTLSConfig(&api.TLSConfig{
		Address:            c.either(c.tlsServerName, "TLS_SERVER_NAME"),
		CAFile:             c.either(c.caFile, "CACERT"),
		CAPath:             c.either(c.caPath, "CAPATH"),
		CertFile:           c.either(c.clientCert, "CLIENT_CERT"),
		KeyFile:            c.either(c.clientKey, "CLIENT_KEY"),
		InsecureSkipVerify: !verify,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up TLS: %w", err)
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config}, nil
}

// dialSocket sends every connection of a transport to a Unix socket.
func dialSocket(transport *http.Transport, path string) {
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", path)
	}
}

// unresolvedToken stands for the token of the command line inside the client
// library, which would otherwise go looking for one by itself.
const unresolvedToken = "the token of the command line"

// resolvedTransport lets what the command resolved have the last word: the
// client library fills gaps from CONSUL_* by itself, even where a MUSTER_*
// variable was set, and adds tenancy that Muster does not have.
type resolvedTransport struct {
	base  http.RoundTripper
	token string
}

// RoundTrip sends one request with the resolved token, unless the request
// brings its own, and without tenancy.
func (t *resolvedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	query := request.URL.Query()
	query.Del("ns")
	query.Del("partition")
	request.URL.RawQuery = query.Encode()
	if request.Header.Get("X-Consul-Token") == unresolvedToken {
		request.Header.Del("X-Consul-Token")
		if t.token != "" {
			request.Header.Set("X-Consul-Token", t.token)
		}
	}
	return t.base.RoundTrip(request)
}

// readLimited reads everything, up to a limit in bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("it is larger than the limit of %d bytes", limit)
	}
	return content, nil
}
