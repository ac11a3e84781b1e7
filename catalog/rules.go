package catalog

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Normalize fills in what a registration leaves out and refuses one that makes
// no sense, with the texts that clients know (Consul API documentation, page
// "Catalog", register entity).
func (r *Registration) Normalize() error {
	if r.Node.Name == "" {
		return invalid("Must provide node")
	}
	if r.Node.Address == "" && !r.SkipNodeUpdate {
		return invalid("Must provide address if SkipNodeUpdate is not set")
	}
	if err := r.Node.normalizeID(); err != nil {
		return err
	}
	if err := CheckKey("node name", r.Node.Name); err != nil {
		return err
	}
	if r.Service == nil {
		return nil
	}
	if err := r.Service.normalize(); err != nil {
		return err
	}
	return r.Service.checkNumbers()
}

func (n *Node) normalizeID() error {
	if n.ID != "" && !validUUID(n.ID) {
		return invalid("Bad node ID: " + quote(n.ID) + " is not a UUID")
	}
	n.ID = strings.ToLower(n.ID)
	return nil
}

func (s *Service) normalize() error {
	if s.Name == "" {
		if s.ID != "" {
			return invalid("Must provide service name (Service.Service) when service ID is provided")
		}
		return invalid("Must provide service name (Service.Service)")
	}
	if s.ID == "" {
		s.ID = s.Name
	}
	if ip, err := netip.ParseAddr(s.Address); err == nil && ip.IsUnspecified() {
		return invalid("Invalid service address")
	}
	s.Weights.normalize()
	if err := CheckProxy(s.Proxy); err != nil {
		return err
	}
	if err := CheckKey("service name", s.Name); err != nil {
		return err
	}
	if s.Tags == nil {
		s.Tags = []string{}
	}
	return CheckKey("service ID", s.ID)
}

// checkNumbers refuses ports and weights that there cannot be. Only what is written
// is looked at: what an older version let in can still be removed.
func (s *Service) checkNumbers() error {
	if err := checkNumber("port", s.Port, MaxPort); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(s.TaggedAddresses)) {
		if err := checkNumber("port of the tagged address "+quote(key)+":", s.TaggedAddresses[key].Port, MaxPort); err != nil {
			return err
		}
	}
	if err := checkNumber("weight while passing:", s.Weights.Passing, MaxWeight); err != nil {
		return err
	}
	return checkNumber("weight while warning:", s.Weights.Warning, MaxWeight)
}

func checkNumber(what string, n, limit int) error {
	if n < 0 || n > limit {
		return invalid(fmt.Sprintf("Invalid service: %s %d is not between 0 and %d", what, n, limit))
	}
	return nil
}

// normalize gives an instance the weight of one where none was given. A warning
// weight of zero is one that can be given, beside a passing weight.
func (w *Weights) normalize() {
	if w.Warning < 0 || (w.Warning == 0 && w.Passing <= 0) {
		w.Warning = 1
	}
	if w.Passing <= 0 {
		w.Passing = 1
	}
}

// CheckKey refuses a name with the one byte that parts the columns of a row's
// key: what says in the error which name it is.
func CheckKey(what, name string) error {
	if strings.Contains(name, "\x00") {
		return invalid("Invalid " + what + " " + quote(name) + ": it must not contain a NUL byte")
	}
	return nil
}

// maxProxyDepth is how many objects and lists of a proxy's definition may stand
// in each other. Readers of JSON give up on what is nested too deeply, some from
// a thousand levels on, and with it on the whole answer.
const maxProxyDepth = 64

// CheckProxy refuses the mesh's part of an instance, a JSON text, if more than
// 64 objects and lists stand in each other. The error has code [mvcc.Invalid].
func CheckProxy(text []byte) error {
	if depth := nesting(text); depth > maxProxyDepth {
		return invalid(fmt.Sprintf("Invalid service proxy: %d objects and lists stand in each other, which is more than %d", depth, maxProxyDepth))
	}
	return nil
}

// nesting counts how many objects and lists of a valid JSON text stand in each
// other.
func nesting(text []byte) int {
	depth, deepest := 0, 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++ // whatever is escaped
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func invalid(text string) error { return &mvcc.Error{Code: mvcc.Invalid, Text: text} }

func quote(s string) string {
	return `"` + strings.ReplaceAll(s, "\x00", `\x00`) + `"`
}

// validUUID reports whether s is 8-4-4-4-12 hexadecimal digits (RFC 9562 §4).
func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
				return false
			}
		}
	}
	return true
}
