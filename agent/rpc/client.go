package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
)

// ClientConfig is what a [Client] is made of.
type ClientConfig struct {
	// ID is the node ID of this agent, for errors.
	ID string
	// Cluster returns the ID of this agent's cluster, or zeros while it is
	// not known. Nil means never known.
	Cluster func() [16]byte
	// Resolve returns the address, as host and port, of the server with a
	// node ID. It is asked anew for each dial.
	Resolve func(id string) (address string, err error)
	// Dial opens a connection to an address; nil is plain TCP. The hello is
	// said on what it returns.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger takes what went wrong; nil drops it.
	Logger *slog.Logger
}

// Client makes calls to servers, over one connection for each that it keeps.
type Client struct{ cfg ClientConfig }

var errNotBuilt = errors.New("not built yet")

// NewClient returns a Client. Nothing is dialled before the first call.
func NewClient(cfg ClientConfig) *Client { return &Client{cfg: cfg} }

// Apply has the server with the node ID to carry out a command.
func (c *Client) Apply(ctx context.Context, to string, r *ApplyRequest) ([]byte, error) {
	return nil, errNotBuilt
}

// Query asks the server with the node ID to, and gives each of its replies to
// each. An error of each ends the call and is returned.
func (c *Client) Query(ctx context.Context, to string, r *QueryRequest, each func(Reply) error) error {
	return errNotBuilt
}

// Forget closes the connection to a server, with the calls on it.
func (c *Client) Forget(id string) {}

// Close ends all calls and closes all connections. Later calls fail.
func (c *Client) Close() error { return nil }
