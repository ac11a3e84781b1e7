package rpc

import (
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
}

// Dial connects to the server with the given node ID and says hello for the
// given protocol, all within timeout ([DialTimeout] if it is not positive). If
// the server answered but did not accept, the error is a [Refusal].
func (d Dialer) Dial(protocol byte, id string, timeout time.Duration) (net.Conn, error) {
	if id == "" || len(id) > MaxIDBytes {
		return nil, fmt.Errorf("cannot dial node %q: its ID has %d bytes, 1 to %d are possible", id, len(id), MaxIDBytes)
	}
	if timeout <= 0 {
		timeout = DialTimeout
	}
	deadline := time.Now().Add(timeout)
	address, err := d.Resolve(id)
	if err != nil {
		return nil, fmt.Errorf("cannot dial node %q from node %q: no address: %w", id, d.ID, err)
	}
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot dial node %q from node %q: %w", id, d.ID, err)
	}
	h := hello{protocol: protocol, form: FormPlain, target: id}
	if d.Cluster != nil {
		h.cluster = d.Cluster()
	}
	if err := greet(conn, h, deadline); err != nil {
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
