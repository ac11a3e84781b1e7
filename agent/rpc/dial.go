package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Dialer opens connections to the server ports of other agents, which it names
// by node ID: an address is looked up in each dial and kept nowhere, so a
// server may change its address.
type Dialer struct {
	// ID is the node ID of this agent, for errors.
	ID string
	// Cluster returns the ID of this agent's cluster, or zeros while it is
	// not known. Nil means never known.
	Cluster func() [16]byte
	// Resolve returns the address, as host and port, of the server with a
	// node ID.
	Resolve func(id string) (address string, err error)
	// Net opens a connection to an address; nil is plain TCP.
	Net func(ctx context.Context, address string) (net.Conn, error)
}

// Dial connects to the server with the given node ID and says hello for the
// given protocol, all within timeout ([DialTimeout] if it is not positive). If
// the server answered but did not accept, the error is a [Refusal].
func (d Dialer) Dial(protocol byte, id string, timeout time.Duration) (net.Conn, error) {
	return d.DialContext(context.Background(), protocol, id, timeout)
}

// DialContext is Dial that a context can end, too.
func (d Dialer) DialContext(ctx context.Context, protocol byte, id string, timeout time.Duration) (net.Conn, error) {
	if id == "" || len(id) > MaxIDBytes {
		return nil, fmt.Errorf("cannot dial node %q: its ID has %d bytes, 1 to %d are possible", id, len(id), MaxIDBytes)
	}
	if timeout <= 0 {
		timeout = DialTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	address, err := d.Resolve(id)
	if err != nil {
		return nil, fmt.Errorf("cannot dial node %q from node %q: no address: %w", id, d.ID, err)
	}
	dial := d.Net
	if dial == nil {
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("cannot dial node %q from node %q: %w", id, d.ID, err)
	}
	h := hello{protocol: protocol, form: FormPlain, target: id}
	if d.Cluster != nil {
		h.cluster = d.Cluster()
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = greet(conn, h, deadline)
	if !release() && err == nil {
		err = context.Cause(ctx) // it was closed just as it was ready
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot dial node %q from node %q: %w", id, d.ID, err)
	}
	return conn, nil
}

// greet says hello on a fresh connection and reads the answer.
func greet(conn net.Conn, h hello, deadline time.Time) error {
	address := conn.RemoteAddr().String()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(h.append(nil)); err != nil {
		return fmt.Errorf("cannot say hello to %s: %w", address, err)
	}
	var status [1]byte
	if _, err := io.ReadFull(conn, status[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it closed the connection")
		}
		return fmt.Errorf("%s did not answer the hello: %w", address, err)
	}
	if Status(status[0]) == StatusAccepted {
		return conn.SetDeadline(time.Time{})
	}
	refusal := &Refusal{
		Status: Status(status[0]), Address: address, Protocol: h.protocol, Form: h.form,
		WantCluster: h.cluster, WantID: h.target,
	}
	var err error
	if refusal.HaveCluster, refusal.HaveID, err = readIdentity(conn); err != nil {
		return fmt.Errorf("%s refused the hello (%s) but did not say who it is: %w", address, refusal.Status, err)
	}
	return refusal
}
