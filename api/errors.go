package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Texts that clients match on. They are part of the interface.
const (
	textNoLeader        = "No cluster leader"
	textNoServers       = "No known Consul servers"
	textNoPath          = "No path to datacenter"
	textNotReady        = "Not ready to serve consistent reads"
	textUnknownEndpoint = "Invalid URL path: not a recognized HTTP API endpoint\n"
	textUnknownPath     = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	textRestricted      = "Access is restricted"
	textBlocked         = "Endpoint is blocked by agent configuration"
	textStaleConsistent = "Cannot specify ?stale with ?consistent, conflicting semantics."
	textCacheConsistent = "Cannot specify ?cached with ?consistent, conflicting semantics."
	textCacheControl    = "Invalid Cache-Control header."
	textInvalidIndex    = "Invalid index"
	textInvalidWait     = "Invalid wait time"
	textInvalidPassing  = "Invalid value for ?passing"
	textDecodeFailed    = "Request decode failed: "
	textFilterFailed    = "Failed to create boolean expression evaluator: "
	textMissingKey      = "Missing key name"
	textMissingNode     = "Missing node name"
	textMissingService  = "Missing service name"
	textMissingState    = "Missing check state"
	textACLDisabled     = "ACL support disabled"
	textConnectDisabled = "Connect must be enabled in order to use this endpoint"
	textNoSegments      = "Network segments are not supported in this version of Consul"
	textWANSegment      = "Cannot provide a segment with wan=true"
	textNoPeer          = "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"
	textTwoPeers        = "Must specify only one of ?id or ?address"
	textNoOtherServer   = "cannot find peer"
	textUnknownServer   = "(unknown)"
	textNoNamespaces    = "Namespaces are a Consul Enterprise feature"
	textNoPartitions    = "Partitions are a Consul Enterprise feature"
)

// refusal is an error whose status the handler has chosen itself.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

func refuse(status int, format string, args ...any) error {
	if len(args) == 0 {
		return &refusal{status, format}
	}
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// badRequest is a refusal of a request that can never be carried out.
func badRequest(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// notYet is the answer of an endpoint that this version knows by name only.
func notYet(what string) error {
	return refuse(http.StatusNotImplemented, "%s is not implemented in this version of Muster", what)
}

// byAgent gives an error of the agent's own registry its status: a definition
// that cannot be accepted is the client's fault there, while the servers'
// refusals of the same kind are known to clients as 500.
func byAgent(err error) error {
	var e *mvcc.Error
	if errors.As(err, &e) && e.Code == mvcc.Invalid {
		return badRequest("%s", e.Text)
	}
	return err
}

// statusOf returns the status and the text that an error is answered with. It
// is the one place where kinds of errors become statuses.
func statusOf(err error) (status int, text string) {
	var r *refusal
	if errors.As(err, &r) {
		return r.status, r.text
	}
	text = err.Error()
	switch mvcc.CodeOf(err) {
	case mvcc.NoLeader:
		// Clients know it by its beginning; why there is none may follow.
		if text != textNoServers && !strings.HasPrefix(text, textNoLeader+": ") {
			text = textNoLeader
		}
		return http.StatusInternalServerError, text
	case mvcc.NoPath:
		return http.StatusInternalServerError, textNoPath
	case mvcc.NotReady:
		if !strings.HasPrefix(text, textNotReady+": ") {
			text = textNotReady
		}
		return http.StatusInternalServerError, text
	case mvcc.Compacted:
		return http.StatusGone, text
	case mvcc.RetryElsewhere:
		return http.StatusTooManyRequests, text
	case mvcc.DiskFull, mvcc.ShuttingDown, mvcc.RetryLater:
		return http.StatusServiceUnavailable, text
	case mvcc.TooLarge:
		return http.StatusRequestEntityTooLarge, text
	case mvcc.Unknown:
		return http.StatusNotFound, text
	default:
		// Invalid, Timeout and Internal: clients know these by their texts.
		return http.StatusInternalServerError, text
	}
}
