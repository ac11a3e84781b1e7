package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv"
	"github.com/muster-sd/muster/kv/mvcc"
)

// The numbers below stand in every log and snapshot. Never reuse one, never
// renumber. Bodies are keyed by field name: a field may be added if its zero
// value means what was meant before, and is never renamed, retyped or given a
// new meaning. A new meaning is a new number.

// Kinds of commands, with the protocol version that each came in. A kind with
// the bit kindMaySkip may be skipped by a server that does not know it.
const (
	kindBegin      byte = 1  // version 1
	kindTxn        byte = 2  // version 1
	kindAutopilot  byte = 3  // version 2
	kindSet        byte = 16 // version 1
	kindCAS        byte = 17 // version 1
	kindDelete     byte = 18 // version 1
	kindDeleteCAS  byte = 19 // version 1
	kindDeleteTree byte = 20 // version 1
	kindReap       byte = 21 // version 1
	kindRegister   byte = 48 // version 1
	kindDeregister byte = 49 // version 1

	kindMaySkip byte = 0x80

	kindCheckHash byte = kindMaySkip | 4 // version 2
)

// Kinds of queries. They stand in no file, but servers and agents of different
// versions send them to each other.
const (
	queryTxn           byte = 2  // version 2
	queryAutopilot     byte = 3  // version 2
	queryUsage         byte = 4  // version 2
	queryWhy           byte = 5  // version 2
	queryGet           byte = 16 // version 2
	queryList          byte = 17 // version 2
	queryKeys          byte = 18 // version 2
	queryNode          byte = 48 // version 2
	queryNodes         byte = 49 // version 2
	queryNodeServices  byte = 50 // version 2
	queryInstances     byte = 51 // version 2
	queryServices      byte = 52 // version 2
	queryAddress       byte = 53 // version 2
	queryService       byte = 64 // version 2
	queryNodeChecks    byte = 65 // version 2
	queryServiceChecks byte = 66 // version 2
	queryStateChecks   byte = 67 // version 2
)

// Kinds of answers, by the type of their value. Likewise.
const (
	answerOutcome      byte = 2  // version 2
	answerAutopilot    byte = 3  // version 2
	answerUsage        byte = 4  // version 2
	answerReasons      byte = 5  // version 2
	answerEntry        byte = 16 // version 2
	answerEntries      byte = 17 // version 2
	answerKeys         byte = 18 // version 2
	answerNode         byte = 48 // version 2
	answerNodes        byte = 49 // version 2
	answerNodeDetail   byte = 50 // version 2
	answerInstances    byte = 51 // version 2
	answerServiceTags  byte = 52 // version 2
	answerAddressOwner byte = 53 // version 2
	answerHealth       byte = 64 // version 2
	answerChecks       byte = 65 // version 2
)

// Tables of persisted rows, in the order in which a snapshot holds them.
const (
	tableFacts        byte = 1  // version 1
	tableEntries      byte = 16 // version 1
	tableTombstones   byte = 17 // version 1
	tableKVMarks      byte = 18 // version 1
	tableNodes        byte = 48 // version 1
	tableServices     byte = 49 // version 1
	tableCatalogMarks byte = 50 // version 1
	tableChecks       byte = 64 // version 1
	tableHealthMarks  byte = 65 // version 1
)

// ProtocolVersion is the newest version of commands and tables that this
// program knows.
const ProtocolVersion = 2

// formPlain is the only form of a body yet: msgpack, nothing around it.
const formPlain byte = 1

func kindOf(cmd any) (byte, bool) {
	switch cmd.(type) {
	case *Begin:
		return kindBegin, true
	case *health.Transaction:
		return kindTxn, true
	case *SetAutopilot:
		return kindAutopilot, true
	case *CheckHash:
		return kindCheckHash, true
	case *kv.Set:
		return kindSet, true
	case *kv.CAS:
		return kindCAS, true
	case *kv.Delete:
		return kindDelete, true
	case *kv.DeleteCAS:
		return kindDeleteCAS, true
	case *kv.DeleteTree:
		return kindDeleteTree, true
	case *kv.Reap:
		return kindReap, true
	case *health.Register:
		return kindRegister, true
	case *catalog.Deregister:
		return kindDeregister, true
	}
	return 0, false
}

func newCommand(kind byte) any {
	switch kind {
	case kindBegin:
		return new(Begin)
	case kindTxn:
		return new(health.Transaction)
	case kindAutopilot:
		return new(SetAutopilot)
	case kindCheckHash:
		return new(CheckHash)
	case kindSet:
		return new(kv.Set)
	case kindCAS:
		return new(kv.CAS)
	case kindDelete:
		return new(kv.Delete)
	case kindDeleteCAS:
		return new(kv.DeleteCAS)
	case kindDeleteTree:
		return new(kv.DeleteTree)
	case kindReap:
		return new(kv.Reap)
	case kindRegister:
		return new(health.Register)
	case kindDeregister:
		return new(catalog.Deregister)
	}
	return nil
}

func tableOf(row any) byte {
	switch row.(type) {
	case *Fact:
		return tableFacts
	case *kv.Entry:
		return tableEntries
	case *kv.Tombstone:
		return tableTombstones
	case *kv.Mark:
		return tableKVMarks
	case *catalog.Node:
		return tableNodes
	case *catalog.Service:
		return tableServices
	case *catalog.Mark:
		return tableCatalogMarks
	case *health.Check:
		return tableChecks
	case *health.Mark:
		return tableHealthMarks
	}
	panic(fmt.Sprintf("state: a row of type %T has no table", row))
}

func newRow(table byte) any {
	switch table {
	case tableFacts:
		return new(Fact)
	case tableEntries:
		return new(kv.Entry)
	case tableTombstones:
		return new(kv.Tombstone)
	case tableKVMarks:
		return new(kv.Mark)
	case tableNodes:
		return new(catalog.Node)
	case tableServices:
		return new(catalog.Service)
	case tableCatalogMarks:
		return new(catalog.Mark)
	case tableChecks:
		return new(health.Check)
	case tableHealthMarks:
		return new(health.Mark)
	}
	return nil
}

// tableName is what people call the rows of a table.
func tableName(table byte) string {
	switch table {
	case tableFacts:
		return "Fact"
	case tableEntries:
		return "KV"
	case tableTombstones:
		return "KVTombstone"
	case tableKVMarks:
		return "KVMark"
	case tableNodes:
		return "Node"
	case tableServices:
		return "Service"
	case tableCatalogMarks:
		return "CatalogMark"
	case tableChecks:
		return "Check"
	case tableHealthMarks:
		return "HealthMark"
	}
	return fmt.Sprintf("Table%d", table)
}

// handle is how rows and bodies are written. Only codec tags count: the library
// would otherwise take json tags for its own, and drop fields from the log that
// only JSON leaves out. Canonical sorts maps, so equal rows are equal bytes.
func newHandle() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.TypeInfos = codec.NewTypeInfos([]string{"codec"})
	h.Canonical = true
	h.WriteExt = true
	h.RawToString = true
	return h
}

// handle is shared: a handle is safe for concurrent use once it was used.
var handle = newHandle()

// rowEncoder writes rows. It is for one goroutine.
type rowEncoder struct {
	enc       *codec.Encoder
	body, row []byte
	// journaled is for journals: see inPlace.
	journaled func(dst []byte, row any) []byte
}

func newRowEncoder() *rowEncoder {
	e := &rowEncoder{body: make([]byte, 0, 1024), row: make([]byte, 0, 1024)}
	e.enc = codec.NewEncoderBytes(&e.body, handle)
	e.journaled = e.inPlace
	return e
}

// inPlace returns a row's encoding in memory of the encoder's own, where it
// stands until the next one: all that a journal needs.
func (e *rowEncoder) inPlace(_ []byte, row any) []byte {
	e.row = e.append(e.row[:0], row)
	return e.row
}

// append appends a row's canonical encoding, beginning with its table's number.
func (e *rowEncoder) append(dst []byte, row any) []byte {
	dst = append(dst, tableOf(row))
	e.enc.ResetBytes(&e.body)
	e.enc.MustEncode(row)
	return append(dst, e.body...)
}

// decoder reads bodies of log entries and rows. It is for one goroutine.
type decoder struct {
	dec *codec.Decoder
}

func newDecoder() *decoder { return &decoder{codec.NewDecoderBytes(nil, handle)} }

// decode decodes msgpack into v. Damaged bytes make the library panic now and
// then: that is an error like any other.
func (d *decoder) decode(b []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged body: %v", p)
		}
	}()
	d.dec.ResetBytes(b)
	return d.dec.Decode(v)
}

// commandEncoder writes the bodies of commands. It is for one goroutine.
type commandEncoder struct {
	enc  *codec.Encoder
	body []byte
}

// commandEncoders are kept because making one costs more than using it.
var commandEncoders = sync.Pool{New: func() any {
	e := &commandEncoder{body: make([]byte, 0, 1024)}
	e.enc = codec.NewEncoderBytes(&e.body, handle)
	return e
}}

// Envelope is what stands in a log entry beside the command's body.
type Envelope struct {
	Kind byte
	// At is the leader's time in Unix milliseconds.
	At     int64
	Origin mvcc.Origin
}

// Encode returns the log entry of a command:
//
//	[kind 1][form 1][at 8][length of origin 2][origin][msgpack body]
//
// where origin is a list of texts, each behind its length of one byte. Numbers
// are big-endian.
func Encode(cmd any, at int64, origin mvcc.Origin) ([]byte, error) {
	kind, ok := kindOf(cmd)
	if !ok {
		return nil, fmt.Errorf("cannot encode a command of type %T", cmd)
	}
	e := commandEncoders.Get().(*commandEncoder)
	e.enc.ResetBytes(&e.body)
	if err := e.enc.Encode(cmd); err != nil {
		return nil, fmt.Errorf("cannot encode a command of type %T: %w", cmd, err)
	}
	b := make([]byte, 0, headerLength+originLength(origin)+len(e.body))
	b = append(b, kind, formPlain)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = appendOrigin(b, origin)
	b = append(b, e.body...)
	if cap(e.body) <= maxKeptBuffer {
		commandEncoders.Put(e)
	}
	return b, nil
}

// Stamp sets the time in a log entry that another agent encoded, in Unix
// milliseconds: the leader's own counts. What is too short for an entry is left
// as it is; [CheckEntry] refuses it.
func Stamp(entry []byte, at int64) {
	if len(entry) >= headerLength {
		binary.BigEndian.PutUint64(entry[2:], uint64(max(at, 0)))
	}
}

// originLength is at least how many bytes appendOrigin appends after the length.
func originLength(o mvcc.Origin) int { return 3 + len(o.Node) + len(o.Address) + len(o.Endpoint) }

func appendOrigin(b []byte, o mvcc.Origin) []byte {
	length := len(b)
	b = append(b, 0, 0)
	for _, text := range []string{o.Node, o.Address, o.Endpoint} {
		text = text[:min(len(text), maxOriginField)]
		b = append(b, byte(len(text)))
		b = append(b, text...)
	}
	binary.BigEndian.PutUint16(b[length:], uint16(len(b)-length-2))
	return b
}

// errSkip says that an entry is of an unknown kind that may be skipped.
var errSkip = errors.New("an unknown kind of command that may be skipped")

// headerLength is that of kind, form, at and the length of the origin.
const headerLength = 12

// Decode reads a log entry. Its error says what is wrong with the entry, and
// for a kind or form of a later program which version is needed.
func Decode(b []byte) (Envelope, any, error) { return newDecoder().entry(b) }

func (d *decoder) entry(b []byte) (Envelope, any, error) {
	var e Envelope
	if len(b) < headerLength {
		return e, nil, fmt.Errorf("a log entry of %d bytes is shorter than its header of %d", len(b), headerLength)
	}
	e.Kind = b[0]
	if err := checkHeader(b); err != nil {
		return e, nil, err
	}
	at := binary.BigEndian.Uint64(b[2:])
	if at > math.MaxInt64 {
		return e, nil, fmt.Errorf("a log entry's time %d is out of range", at)
	}
	e.At = int64(at)
	body, err := readOrigin(b[headerLength-2:], &e.Origin)
	if err != nil {
		return e, nil, err
	}
	cmd := newCommand(e.Kind)
	if err := d.decode(body, cmd); err != nil {
		return e, nil, fmt.Errorf("cannot decode the body of a log entry of kind %d: %w", e.Kind, err)
	}
	return e, cmd, nil
}

func checkHeader(b []byte) error {
	kind, form := b[0], b[1]
	if newCommand(kind) == nil {
		if kind&kindMaySkip != 0 {
			return errSkip
		}
		return fmt.Errorf("a command of kind %d needs a newer Muster: this one knows protocol version %d", kind, ProtocolVersion)
	}
	if form != formPlain {
		return fmt.Errorf("a command in form %d needs a newer Muster: this one knows form %d", form, formPlain)
	}
	return nil
}

// readOrigin reads the origin at the head of b and returns what follows it.
// Texts after those that are known are for later programs.
func readOrigin(b []byte, o *mvcc.Origin) ([]byte, error) {
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) < n {
		return nil, fmt.Errorf("a log entry's origin of %d bytes is cut off after %d", n, len(b))
	}
	texts, rest := string(b[:n]), b[n:]
	for _, field := range []*string{&o.Node, &o.Address, &o.Endpoint} {
		if len(texts) == 0 {
			break
		}
		l := int(texts[0])
		if len(texts) < 1+l {
			return nil, fmt.Errorf("a text of %d bytes in a log entry's origin is cut off", l)
		}
		*field, texts = texts[1:1+l], texts[1+l:]
	}
	return rest, nil
}

// CheckEntry reports why this program could not apply a log entry, so that a
// whole log can be looked through before anything is served.
func CheckEntry(b []byte) error {
	d := entryCheckers.Get().(*decoder)
	_, _, err := d.entry(b)
	if err != nil && !errors.Is(err, errSkip) {
		return err
	}
	entryCheckers.Put(d)
	return nil
}

// entryCheckers are kept because making one costs more than using it.
var entryCheckers = sync.Pool{New: func() any { return newDecoder() }}
