package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/muster-sd/muster/health"
)

// Headers that an HTTP check sends unless its definition has its own.
const (
	defaultUserAgent = "Consul Health Check"
	defaultAccept    = "text/plain, text/*, */*"
)

// httpChecker asks a URL. Each run makes a connection of its own: one that was
// kept alive would prove less.
type httpChecker struct {
	client *http.Client
	method string
	url    string
	shown  string // the URL without a password
	host   string
	header http.Header
	body   string
	limit  int
}

func newHTTPChecker(d *Definition, base *tls.Config, limit int) *httpChecker {
	c := &httpChecker{
		method: d.Method,
		url:    d.HTTP,
		shown:  d.HTTP,
		header: make(http.Header),
		body:   d.Body,
		limit:  limit,
	}
	if c.method == "" {
		c.method = http.MethodGet
	}
	if u, err := url.Parse(d.HTTP); err == nil && u.User != nil {
		c.shown = u.Redacted()
	}
	c.header.Set("User-Agent", defaultUserAgent)
	c.header.Set("Accept", defaultAccept)
	for name, values := range d.Header {
		name = http.CanonicalHeaderKey(name)
		if name == "Host" {
			c.host = strings.Join(values, "")
			continue
		}
		c.header[name] = values
	}
	c.client = &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DisableKeepAlives:      true,
		DisableCompression:     true, // an answer must not grow here
		MaxResponseHeaderBytes: MaxResponseHeader,
		TLSClientConfig:        tlsConfig(d, base),
	}}
	c.client.CheckRedirect = func(_ *http.Request, via []*http.Request) error {
		switch {
		case d.DisableRedirects:
			return http.ErrUseLastResponse
		case len(via) >= MaxRedirects:
			return fmt.Errorf("stopped after %d redirects", MaxRedirects)
		}
		return nil
	}
	return c
}

// tlsConfig is how the check verifies its peer and what it shows of itself, on
// the agent's own settings if it has any for checks.
func tlsConfig(d *Definition, base *tls.Config) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	if d.TLSServerName != "" {
		c.ServerName = d.TLSServerName
	}
	if d.TLSSkipVerify { // the author of the check asked for it
		c.InsecureSkipVerify = true
	}
	return c
}

// check judges by the status alone: a body that does not end, or ends badly,
// only costs the time of the run.
func (c *httpChecker) check(ctx context.Context) result {
	request, err := http.NewRequestWithContext(ctx, c.method, c.url, strings.NewReader(c.body))
	if err != nil {
		return failed(err, c.limit)
	}
	request.Header = c.header.Clone()
	request.Host = c.host
	if c.host == "" {
		request.Host = request.URL.Host
	}
	// A dial that the run gave up would go on for the sake of later requests.
	defer c.client.CloseIdleConnections()
	answer, err := c.client.Do(request)
	if err != nil {
		return failed(err, c.limit)
	}
	defer answer.Body.Close()
	tail := readTail(answer.Body, c.limit, MaxBodyRead)
	line := answer.Status[:min(len(answer.Status), MaxStatusLine)]
	return result{
		status: statusOf(answer.StatusCode),
		output: fmt.Sprintf("HTTP %s %s: %s Output: %s", c.method, c.shown, line, tail),
	}
}

// statusOf is what an HTTP status code says about health.
func statusOf(code int) health.Status {
	switch {
	case code >= 200 && code <= 299:
		return health.Passing
	case code == http.StatusTooManyRequests:
		return health.Warning
	default:
		return health.Critical
	}
}
