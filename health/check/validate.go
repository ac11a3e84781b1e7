package check

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// Validate reports what is wrong with how the check is to be run, wherever it
// was written. Errors have code [mvcc.Invalid] and a text that begins with
// "Invalid check: ". Name and status are not looked at: their rules depend on
// where the definition comes from, see [Definition.ValidateRequest].
func (d *Definition) Validate() error {
	switch {
	case d.Interval > 0 && d.TTL > 0:
		return invalid("Invalid check: Interval and TTL cannot both be specified")
	case d.isPolled() && d.isAlias():
		return invalid("Invalid check: Interval cannot be set for Alias checks")
	case d.isPolled() && d.Interval <= 0:
		return invalid("Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
	case d.isAlias() && d.TTL > 0:
		return invalid("Invalid check: TTL must be not be set for Alias checks")
	case !d.isPolled() && !d.isAlias() && d.TTL <= 0:
		return invalid("Invalid check: TTL must be > 0 for TTL checks")
	case d.OutputMaxSize < 0:
		return invalid("Invalid check: MaxOutputMaxSize must be positive")
	case d.FailuresBeforeWarning > d.FailuresBeforeCritical:
		return invalid("Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
	}
	for _, text := range []struct{ what, value string }{{"ID", d.ID}, {"Name", d.Name}, {"Notes", d.Notes}} {
		if len(text.value) > health.MaxText {
			return invalid("Invalid check: %s has %d bytes, %d are possible", text.what, len(text.value), health.MaxText)
		}
	}
	if !printable(d.ID) {
		return invalid("Invalid check: ID %q must have printable characters only", d.ID)
	}
	return nil
}

// printable reports whether the path of a request may carry the name. If not,
// nobody could ask for what has it, or take it away again.
func printable(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
}

// ValidateRequest reports what is wrong with a check that a client registers on
// its own, without an instance around it. Errors have code [mvcc.Invalid].
func (d *Definition) ValidateRequest() error {
	switch {
	case d.Name == "":
		return invalid("Missing check name")
	case !knownStatus(d.Status):
		return invalid("Bad check status")
	case d.ID == "" && !printable(d.Name):
		return invalid("Invalid check: name %q, which is the ID too, must have printable characters only", d.Name)
	}
	return d.Validate()
}

// Validate reports what is wrong with a registration by a client, its checks
// included. What [Registration.Normalize] fills in may be missing. Errors have
// code [mvcc.Invalid]; a tagged address of the wrong family has
// [mvcc.Internal], because clients know that fault by its status.
func (r *Registration) Validate() error {
	if err := r.ValidateService(); err != nil {
		return err
	}
	for i := range r.Checks {
		if !knownStatus(r.Checks[i].Status) {
			return invalid("Status for checks must 'passing', 'warning', 'critical'")
		}
		if err := r.Checks[i].Validate(); err != nil {
			return err
		}
	}
	return nil
}

// ValidateService reports what is wrong with the instance alone, with errors as
// [Registration.Validate] has them.
func (r *Registration) ValidateService() error {
	s := &r.Service
	if s.Name == "" {
		return invalid("Missing service name")
	}
	if !printable(s.Name) {
		return invalid("Invalid service: name %q must have printable characters only", s.Name)
	}
	if !printable(s.ID) {
		return invalid("Invalid service: ID %q must have printable characters only", s.ID)
	}
	if err := catalog.CheckProxy(s.Proxy); err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(s.Address); err == nil && ip.IsUnspecified() {
		return invalid("Invalid service address")
	}
	if err := ValidateMeta(s.Meta); err != nil {
		return invalid("Invalid Service Meta: %v", err)
	}
	if err := ValidateWeights(s.Weights); err != nil && s.Weights != (catalog.Weights{}) {
		return invalid("Invalid Weights: %v", err)
	}
	if s.SocketPath != "" && (s.Address != "" || s.Port != 0) {
		return invalid("Invalid service: a socket path (%q) excludes an address and a port", s.SocketPath)
	}
	if err := validatePort("port", s.Port); err != nil {
		return err
	}
	if l := s.Locality; l != nil && l.Zone != "" && l.Region == "" {
		return invalid("Validation failed: 1 error occurred:\n\t* zone cannot be set without region\n\n")
	}
	if len(r.Checks) > MaxChecks {
		return invalid("Invalid service: %d checks are more than the %d that one service may have", len(r.Checks), MaxChecks)
	}
	return validateTaggedAddresses(s)
}

// ValidateWeights reports weights outside of what SRV records can carry
// (RFC 2782): an instance needs some share while it passes.
func ValidateWeights(w catalog.Weights) error {
	switch {
	case w.Passing < 1:
		return fmt.Errorf("Passing must be greater than 0")
	case w.Passing > catalog.MaxWeight, w.Warning < 0, w.Warning > catalog.MaxWeight:
		return fmt.Errorf("DNS Weight must be between 0 and %d", catalog.MaxWeight)
	}
	return nil
}

// ValidateMeta reports what is wrong with the metadata of a node or an
// instance. Of several faults it names the one that comes first by key.
func ValidateMeta(meta map[string]string) error {
	if len(meta) > MaxMetaPairs {
		return fmt.Errorf("Node metadata cannot contain more than %d key/value pairs", MaxMetaPairs)
	}
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if fault := metaFault(key, meta[key]); fault != "" {
			return fmt.Errorf("Couldn't load metadata pair ('%s', '%s'): %s", key, meta[key], fault)
		}
	}
	return nil
}

// reservedMetaPrefix begins keys of metadata that agents set themselves.
const reservedMetaPrefix = "consul-"

// metaFault says what is wrong with one pair of metadata, or nothing.
func metaFault(key, value string) string {
	switch {
	case key == "":
		return "Key cannot be blank"
	case strings.ContainsFunc(key, notInMetaKey):
		return "Key contains invalid characters"
	case len(key) > MaxMetaKey:
		return fmt.Sprintf("Key is too long (limit: %d characters)", MaxMetaKey)
	case strings.HasPrefix(key, reservedMetaPrefix) && key != "consul-network-segment" && key != "consul-version":
		return fmt.Sprintf("Key prefix '%s' is reserved for internal use", reservedMetaPrefix)
	case len(value) > MaxMetaValue:
		return fmt.Sprintf("Value is too long (limit: %d characters)", MaxMetaValue)
	}
	return ""
}

func notInMetaKey(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
}

// validatePort reports a number that is no port. Zero is none at all.
func validatePort(what string, port int) error {
	if port < 0 || port > MaxPort {
		return invalid("Invalid service: %s %d is not between 0 and %d", what, port, MaxPort)
	}
	return nil
}

// validateTaggedAddresses wants an address of the family that its key names.
func validateTaggedAddresses(s *catalog.Service) error {
	for _, key := range slices.Sorted(maps.Keys(s.TaggedAddresses)) {
		if err := validatePort("port of the tagged address "+strconv.Quote(key)+":", s.TaggedAddresses[key].Port); err != nil {
			return err
		}
		ip, err := netip.ParseAddr(s.TaggedAddresses[key].Address)
		var family string
		switch key {
		case lanIPv4, wanIPv4:
			if err != nil || !ip.Unmap().Is4() {
				family = "IPv4"
			}
		case lanIPv6, wanIPv6:
			if err != nil || !ip.Is6() || ip.Is4In6() {
				family = "IPv6"
			}
		}
		if family != "" {
			return &mvcc.Error{Code: mvcc.Internal, Text: fmt.Sprintf("Service tagged address %q must be a valid %s address, not %q",
				key, family, s.TaggedAddresses[key].Address)}
		}
	}
	return nil
}

// knownStatus reports whether s is one that clients may ask for. None given is
// fine: the check then begins as critical.
func knownStatus(s health.Status) bool {
	switch s {
	case "", health.Passing, health.Warning, health.Critical:
		return true
	}
	return false
}

// invalid is an error that the author of the definition has to mend.
func invalid(format string, args ...any) error {
	return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf(format, args...)}
}
