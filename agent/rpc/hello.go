package rpc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Protocols that a connection to the server port can ask for. The numbers
// cross the wire: never reuse, never renumber.
const (
	// ProtocolRaft carries the calls of Raft between servers.
	ProtocolRaft byte = 1
	// ProtocolCalls carries the agents' own calls, by gRPC.
	ProtocolCalls byte = 2
	// ProtocolShort carries those of the agents' own calls that are short, in
	// frames of this package.
	ProtocolShort byte = 3
)

// Forms in which a hello and what follows it can be written. The numbers cross
// the wire: never reuse, never renumber.
const (
	// FormPlain is the hello of this package's comment, then plain bytes.
	FormPlain byte = 1
)

// Status answers a hello. The numbers cross the wire: never reuse, never
// renumber.
type Status byte

const (
	// StatusAccepted says that the connection now speaks its protocol.
	StatusAccepted Status = 1
	// StatusWrongCluster says that the server belongs to another cluster.
	StatusWrongCluster Status = 2
	// StatusWrongTarget says that the server has another node ID.
	StatusWrongTarget Status = 3
	// StatusUnknownProtocol says that the server knows no such protocol.
	StatusUnknownProtocol Status = 4
	// StatusUnknownForm says that the server knows no such form of hello.
	StatusUnknownForm Status = 5
	// StatusNotServed says that the server knows the protocol but does not
	// serve it, or not now.
	StatusNotServed Status = 6
	// StatusBusy says that too many connections wait.
	StatusBusy Status = 7
	// StatusMalformed says that the hello could not be read.
	StatusMalformed Status = 8
	// StatusTooMany says that the dialer's address, or all together, have as
	// many connections as the server allows.
	StatusTooMany Status = 9
)

// String returns the status in words.
func (s Status) String() string {
	switch s {
	case StatusAccepted:
		return "accepted"
	case StatusWrongCluster:
		return "wrong cluster"
	case StatusWrongTarget:
		return "wrong target"
	case StatusUnknownProtocol:
		return "unknown protocol"
	case StatusUnknownForm:
		return "unknown form of hello"
	case StatusNotServed:
		return "protocol not served"
	case StatusBusy:
		return "busy"
	case StatusMalformed:
		return "malformed hello"
	case StatusTooMany:
		return "too many connections from this address, or in all"
	}
	return fmt.Sprintf("unknown status %d", byte(s))
}

// hello is what a dialer says first.
type hello struct {
	protocol byte
	form     byte
	cluster  [16]byte
	target   string
}

// errUnknownForm ends the reading of a hello whose layout is not known.
var errUnknownForm = errors.New("unknown form of hello")

// append adds the bytes of h to b.
func (h hello) append(b []byte) []byte {
	b = append(b, h.protocol, h.form)
	return appendIdentity(b, h.cluster, h.target)
}

// readHello reads one hello from r, and not a byte more. Of a hello in an
// unknown form it reads protocol and form only, and fails with errUnknownForm.
func readHello(r io.Reader) (hello, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return hello{}, fmt.Errorf("cannot read the hello: %w", err)
	}
	h := hello{protocol: head[0], form: head[1]}
	if h.form != FormPlain {
		return h, errUnknownForm
	}
	var err error
	h.cluster, h.target, err = readIdentity(r)
	if err != nil {
		return h, fmt.Errorf("cannot read the hello: %w", err)
	}
	return h, nil
}

// appendIdentity adds a cluster ID and a node ID, as both directions write them.
func appendIdentity(b []byte, cluster [16]byte, id string) []byte {
	b = append(b, cluster[:]...)
	b = append(b, byte(len(id)))
	return append(b, id...)
}

// readIdentity reads what appendIdentity wrote.
func readIdentity(r io.Reader) (cluster [16]byte, id string, err error) {
	var fixed [17]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return cluster, "", err
	}
	copy(cluster[:], fixed[:16])
	length := int(fixed[16])
	if length == 0 {
		return cluster, "", errors.New("the node ID is empty")
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return cluster, "", err
	}
	return cluster, string(text), nil
}

// sameCluster reports whether two sides may be of one cluster: their IDs are
// equal, or one of them does not know it yet.
func sameCluster(a, b [16]byte) bool {
	return a == b || a == [16]byte{} || b == [16]byte{}
}

// clusterText writes a cluster ID for people.
func clusterText(id [16]byte) string {
	if id == [16]byte{} {
		return "(not known yet)"
	}
	return hex.EncodeToString(id[:])
}

// Refusal is the error of a dial whose hello was answered, but not accepted.
// It holds what both sides said.
type Refusal struct {
	// Status is the reason.
	Status Status
	// Address is where the connection went.
	Address string
	// Protocol and Form are what the dialer asked for.
	Protocol, Form byte
	// WantCluster and WantID are the dialer's cluster and the node it meant.
	WantCluster [16]byte
	WantID      string
	// HaveCluster and HaveID are the cluster and node that answered.
	HaveCluster [16]byte
	HaveID      string
}

// Error names the reason and the values of both sides that it rests on.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("server %q at %s refused the connection: %s", r.HaveID, r.Address, r.Status)
	switch r.Status {
	case StatusWrongCluster:
		return fmt.Sprintf("%s: it belongs to cluster %s, this agent to %s", text, clusterText(r.HaveCluster), clusterText(r.WantCluster))
	case StatusWrongTarget:
		return fmt.Sprintf("%s: it is node %q, node %q was meant", text, r.HaveID, r.WantID)
	case StatusUnknownProtocol, StatusNotServed:
		return fmt.Sprintf("%s: protocol %d was asked for", text, r.Protocol)
	case StatusUnknownForm:
		return fmt.Sprintf("%s: form %d was used", text, r.Form)
	}
	return text
}

// Is reports whether target is a Refusal of the same status, so that callers
// can write errors.Is(err, &Refusal{Status: StatusWrongCluster}).
func (r *Refusal) Is(target error) bool {
	other, ok := target.(*Refusal)
	return ok && other.Status == r.Status
}
