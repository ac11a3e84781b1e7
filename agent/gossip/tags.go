package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// metaForm is the first byte of what memberlist carries with a member:
//
//	[form 1][life 8][number of tags][tag]...
//	tag: [key, or 0 and the key's length and bytes][value's length and bytes]
//
// A known key is its number, so that the tags of a server take a third of
// [maxMeta]. The node ID is 16 bytes under idBinary if it is a UUID.
const metaForm = 1

// knownTags are the keys with numbers, which cross the wire: never reuse, never
// renumber.
var knownTags = map[string]byte{
	"role": 1, "dc": 2, "id": 3, "build": 4, "segment": 5, "vsn": 6, "vsn_min": 7, "vsn_max": 8,
	"port": 9, "wan_join_port": 10, "raft_vsn": 11, "bootstrap": 12, "expect": 13, "acls": 14,
	"use_tls": 15, "grpc_port": 16, "grpc_tls_port": 17, "ft_fs": 18, "ft_si": 19, "rc_tm": 20,
}

// idBinary is the tag "id" as 16 bytes.
const idBinary = 127

var tagNames = func() map[byte]string {
	names := map[byte]string{}
	for name, number := range knownTags {
		names[number] = name
	}
	return names
}()

// meta is what members tell of themselves. A life is one run of an agent: what
// was said of one does not hold for the next.
type meta struct {
	life uint64
	tags map[string]string
}

// encode returns the bytes of m, or why there can be none.
func (m meta) encode() ([]byte, error) {
	if len(m.tags) > maxTags {
		return nil, fmt.Errorf("cannot gossip %d tags: a member has at most %d", len(m.tags), maxTags)
	}
	b := append(make([]byte, 0, maxMeta), metaForm)
	b = binary.BigEndian.AppendUint64(b, m.life)
	b = binary.AppendUvarint(b, uint64(len(m.tags)))
	for _, key := range slices.Sorted(maps.Keys(m.tags)) {
		value := m.tags[key]
		number, known := knownTags[key]
		switch raw, isUUID := parseUUID(value); {
		case key == "":
			return nil, fmt.Errorf("cannot gossip the tag with value %q: it has no key", value)
		case key == "id" && isUUID:
			b = append(append(b, idBinary), raw...)
			continue
		case known:
			b = append(b, number)
		default:
			b = appendString(append(b, 0), key)
		}
		b = appendString(b, value)
	}
	if len(b) > maxMeta {
		return nil, fmt.Errorf("cannot gossip the tags of this member: they take %d bytes, the limit is %d", len(b), maxMeta)
	}
	if _, err := decodeMeta(b); err != nil {
		return nil, fmt.Errorf("cannot gossip the tags of this member: %w", err)
	}
	return b, nil
}

// decodeMeta reads what encode wrote.
func decodeMeta(b []byte) (meta, error) {
	if len(b) > maxMeta {
		return meta{}, fmt.Errorf("the tags take %d bytes, the limit is %d", len(b), maxMeta)
	}
	r := reader{b: b}
	if form := r.byte(); r.err == nil && form != metaForm {
		return meta{}, fmt.Errorf("the tags have form %d, this agent knows form %d", form, metaForm)
	}
	m := meta{life: r.fixed64()}
	n := r.uvarint()
	if n > maxTags {
		r.fail(fmt.Errorf("there are %d of them, at most %d are possible", n, maxTags))
		n = 0
	}
	m.tags = make(map[string]string, n)
	for range n {
		key, value := r.tag()
		if r.err != nil {
			break
		}
		if _, twice := m.tags[key]; twice {
			r.fail(fmt.Errorf("the tag %q is there twice", key))
			break
		}
		m.tags[key] = value
	}
	if err := r.end(); err != nil {
		return meta{}, fmt.Errorf("the tags are malformed: %w", err)
	}
	return m, nil
}

func (r *reader) tag() (key, value string) {
	switch number := r.byte(); number {
	case idBinary:
		if len(r.b) < 16 {
			r.fail(errShort)
			return "", ""
		}
		value = formatUUID(r.b[:16])
		r.b = r.b[16:]
		return "id", value
	case 0:
		key = r.string(maxMeta)
		if key == "" {
			r.fail(fmt.Errorf("a tag has no key"))
		}
	default:
		var known bool
		if key, known = tagNames[number]; !known {
			r.fail(fmt.Errorf("no tag has the number %d", number))
		}
	}
	return key, r.string(maxMeta)
}

// parseUUID returns the 16 bytes of a UUID if s is one in its usual form, which
// formatUUID gives back.
func parseUUID(s string) ([]byte, bool) {
	if len(s) != 36 {
		return nil, false
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 || formatUUID(raw) != s {
		return nil, false
	}
	return raw, true
}

func formatUUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
