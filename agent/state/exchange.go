package state

import (
	"fmt"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
)

// This file holds how queries, answers and results cross the wire:
//
//	query   [kind 1][form 1][msgpack body]
//	answer  [kind 1][form 1][msgpack body]
//	result  [form 1][msgpack body]
//
// Whoever decodes an answer has exactly what [View.Answer] gave: the same type,
// and nil where it was nil.

// queryKind is the kind of a query and that of its answer.
func queryKind(q any) (query, answer byte, ok bool) {
	switch q.(type) {
	case *health.Transaction:
		return queryTxn, answerOutcome, true
	case *Autopilot:
		return queryAutopilot, answerAutopilot, true
	case *Usage:
		return queryUsage, answerUsage, true
	case *Why:
		return queryWhy, answerReasons, true
	case *kv.Get:
		return queryGet, answerEntry, true
	case *kv.List:
		return queryList, answerEntries, true
	case *kv.Keys:
		return queryKeys, answerKeys, true
	case *catalog.NodeQuery:
		return queryNode, answerNode, true
	case *catalog.Nodes:
		return queryNodes, answerNodes, true
	case *catalog.NodeServices:
		return queryNodeServices, answerNodeDetail, true
	case *catalog.Instances:
		return queryInstances, answerInstances, true
	case *catalog.Services:
		return queryServices, answerServiceTags, true
	case *catalog.AddressQuery:
		return queryAddress, answerAddressOwner, true
	case *health.ServiceQuery:
		return queryService, answerHealth, true
	case *health.NodeChecks:
		return queryNodeChecks, answerChecks, true
	case *health.ServiceChecks:
		return queryServiceChecks, answerChecks, true
	case *health.StateChecks:
		return queryStateChecks, answerChecks, true
	}
	return 0, 0, false
}

func newQuery(kind byte) any {
	switch kind {
	case queryTxn:
		return new(health.Transaction)
	case queryAutopilot:
		return new(Autopilot)
	case queryUsage:
		return new(Usage)
	case queryWhy:
		return new(Why)
	case queryGet:
		return new(kv.Get)
	case queryList:
		return new(kv.List)
	case queryKeys:
		return new(kv.Keys)
	case queryNode:
		return new(catalog.NodeQuery)
	case queryNodes:
		return new(catalog.Nodes)
	case queryNodeServices:
		return new(catalog.NodeServices)
	case queryInstances:
		return new(catalog.Instances)
	case queryServices:
		return new(catalog.Services)
	case queryAddress:
		return new(catalog.AddressQuery)
	case queryService:
		return new(health.ServiceQuery)
	case queryNodeChecks:
		return new(health.NodeChecks)
	case queryServiceChecks:
		return new(health.ServiceChecks)
	case queryStateChecks:
		return new(health.StateChecks)
	}
	return nil
}

func answerKind(value any) (byte, bool) {
	switch value.(type) {
	case *health.Outcome:
		return answerOutcome, true
	case *AutopilotConfig:
		return answerAutopilot, true
	case *UsageCounts:
		return answerUsage, true
	case *Reasons:
		return answerReasons, true
	case *kv.Entry:
		return answerEntry, true
	case []*kv.Entry:
		return answerEntries, true
	case []string:
		return answerKeys, true
	case *catalog.Node:
		return answerNode, true
	case []*catalog.Node:
		return answerNodes, true
	case *catalog.NodeDetail:
		return answerNodeDetail, true
	case []*catalog.Instance:
		return answerInstances, true
	case catalog.ServiceTags:
		return answerServiceTags, true
	case *catalog.AddressOwner:
		return answerAddressOwner, true
	case []health.Entry:
		return answerHealth, true
	case []*health.Check:
		return answerChecks, true
	}
	return 0, false
}

// decodeValue decodes the body of an answer into the type of its kind.
func decodeValue(kind byte, body []byte) (any, error) {
	switch kind {
	case answerHealth:
		return readEntries(body)
	case answerOutcome:
		return decodeAs[*health.Outcome](body)
	case answerAutopilot:
		return decodeAs[*AutopilotConfig](body)
	case answerUsage:
		return decodeAs[*UsageCounts](body)
	case answerReasons:
		return decodeAs[*Reasons](body)
	case answerEntry:
		return decodeAs[*kv.Entry](body)
	case answerEntries:
		return decodeAs[[]*kv.Entry](body)
	case answerKeys:
		return decodeAs[[]string](body)
	case answerNode:
		return decodeAs[*catalog.Node](body)
	case answerNodes:
		return decodeAs[[]*catalog.Node](body)
	case answerNodeDetail:
		return decodeAs[*catalog.NodeDetail](body)
	case answerInstances:
		return decodeAs[[]*catalog.Instance](body)
	case answerServiceTags:
		return decodeAs[catalog.ServiceTags](body)
	case answerAddressOwner:
		return decodeAs[*catalog.AddressOwner](body)
	case answerChecks:
		return decodeAs[[]*health.Check](body)
	}
	return nil, fmt.Errorf("an answer of kind %d needs a newer Muster: this one knows protocol version %d", kind, ProtocolVersion)
}

func decodeAs[T any](body []byte) (any, error) {
	var v T
	if err := decodeBody(body, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// EncodeQuery returns the bytes of a query that [View.Answer] knows.
func EncodeQuery(q any) ([]byte, error) {
	kind, _, ok := queryKind(q)
	if !ok {
		return nil, fmt.Errorf("cannot encode a query of type %T", q)
	}
	return encodeBody([]byte{kind, formPlain}, q)
}

// IsLookup reports whether some bytes are a query, as far as their first one says,
// for one entry, or for one of the lists that are worth keeping.
func IsLookup(query []byte) bool {
	if len(query) == 0 {
		return false
	}
	switch query[0] {
	case queryGet, queryNodes, queryInstances, queryService, queryServiceChecks:
		return true
	}
	return false
}

// DecodeQuery reads a query. For a kind or form of a later program its error
// says which version is needed.
func DecodeQuery(b []byte) (any, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("a query of %d bytes is shorter than its header of 2", len(b))
	}
	q := newQuery(b[0])
	if q == nil {
		return nil, fmt.Errorf("a query of kind %d needs a newer Muster: this one knows protocol version %d", b[0], ProtocolVersion)
	}
	if b[1] != formPlain {
		return nil, fmt.Errorf("a query in form %d needs a newer Muster: this one knows form %d", b[1], formPlain)
	}
	if err := decodeBody(b[2:], q); err != nil {
		return nil, fmt.Errorf("cannot decode the body of a query of kind %d: %w", b[0], err)
	}
	return q, nil
}

// EncodeAnswer returns the bytes of an answer's value.
func EncodeAnswer(value any) ([]byte, error) {
	kind, ok := answerKind(value)
	if !ok {
		return nil, fmt.Errorf("cannot encode an answer of type %T", value)
	}
	if entries, ok := value.([]health.Entry); ok {
		return appendEntries([]byte{kind, formPlain}, entries), nil
	}
	return encodeBody([]byte{kind, formPlain}, value)
}

// DecodeAnswer reads the value of an answer to q.
func DecodeAnswer(q any, b []byte) (any, error) {
	_, kind, ok := queryKind(q)
	if !ok {
		return nil, fmt.Errorf("no answer is known to a query of type %T", q)
	}
	if len(b) < 2 {
		return nil, fmt.Errorf("an answer of %d bytes is shorter than its header of 2", len(b))
	}
	if b[0] != kind {
		return nil, fmt.Errorf("an answer of kind %d came to a query of type %T, whose answers are of kind %d", b[0], q, kind)
	}
	if b[1] != formPlain {
		return nil, fmt.Errorf("an answer in form %d needs a newer Muster: this one knows form %d", b[1], formPlain)
	}
	value, err := decodeValue(kind, b[2:])
	if err != nil {
		return nil, fmt.Errorf("cannot decode the body of an answer of kind %d: %w", kind, err)
	}
	return value, nil
}

// EncodeResult returns the bytes of what a command came to.
func EncodeResult(r Result) ([]byte, error) { return encodeBody([]byte{formPlain}, &r) }

// DecodeResult reads what a command came to.
func DecodeResult(b []byte) (Result, error) {
	var r Result
	if len(b) < 1 {
		return r, fmt.Errorf("a result of %d bytes is shorter than its header of 1", len(b))
	}
	if b[0] != formPlain {
		return r, fmt.Errorf("a result in form %d needs a newer Muster: this one knows form %d", b[0], formPlain)
	}
	if err := decodeBody(b[1:], &r); err != nil {
		return Result{}, fmt.Errorf("cannot decode a result: %w", err)
	}
	return r, nil
}

// encodeBody appends the msgpack of v to head.
func encodeBody(head []byte, v any) ([]byte, error) {
	e := commandEncoders.Get().(*commandEncoder)
	e.enc.ResetBytes(&e.body)
	if err := e.enc.Encode(v); err != nil {
		return nil, fmt.Errorf("cannot encode a %T: %w", v, err)
	}
	b := append(make([]byte, 0, len(head)+len(e.body)), head...)
	b = append(b, e.body...)
	if cap(e.body) <= maxKeptBuffer {
		commandEncoders.Put(e)
	}
	return b, nil
}

// decodeBody decodes msgpack into v, with a decoder that is kept.
func decodeBody(b []byte, v any) error {
	d := entryCheckers.Get().(*decoder)
	err := d.decode(b, v)
	if err == nil {
		entryCheckers.Put(d)
	}
	return err
}
