package dnsserver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/muster-sd/muster/kv/mvcc"
)

// Settings are the parts of the configuration that may change while the server
// runs, by [Server.Reload].
type Settings struct {
	// AllowStale lets any server answer, as long as it is at most MaxStale behind
	// the leader; a MaxStale of zero is no bound.
	AllowStale bool
	MaxStale   time.Duration
	// NodeTTL is how long answers about nodes may be kept. Fractions of a second
	// are cut off.
	NodeTTL time.Duration
	// ServiceTTL is the same for services, by name. A key that ends in "*" stands
	// for all names that begin with the rest of it; the longest that fits holds.
	ServiceTTL map[string]time.Duration
	// EnableTruncate sets the TC bit on UDP replies that had to leave out answers.
	EnableTruncate bool
	// OnlyPassing leaves out instances with checks in warning state too.
	OnlyPassing bool
	// UDPAnswerLimit is how many answers a client gets by UDP that does not say
	// what it can take.
	UDPAnswerLimit int
	// ARecordLimit is how many addresses of a service are given; zero is no limit.
	ARecordLimit int
	// DisableCompression sends names in full.
	DisableCompression bool
	// EnableAdditionalNodeMetaTXT adds the metadata of nodes, as TXT records, to
	// answers that did not ask for it.
	EnableAdditionalNodeMetaTXT bool
	SOA                         SOA
}

// SOA are the numbers of the zone's SOA record, in seconds (RFC 1035 §3.3.13).
type SOA struct {
	Refresh, Retry, Expire, MinTTL uint32
}

// settings are Settings in the form that answering needs.
type settings struct {
	Settings
	read     mvcc.ReadOptions
	nodeTTL  uint32
	exactTTL map[string]uint32
	// prefixTTL is ordered by falling length.
	prefixTTL []prefixTTL
}

type prefixTTL struct {
	prefix string
	ttl    uint32
}

func newSettings(from Settings) (*settings, error) {
	if from.UDPAnswerLimit < 0 {
		return nil, fmt.Errorf("udp_answer_limit must not be negative, got %d", from.UDPAnswerLimit)
	}
	if from.ARecordLimit < 0 {
		return nil, fmt.Errorf("a_record_limit must not be negative, got %d", from.ARecordLimit)
	}
	s := &settings{Settings: from, exactTTL: map[string]uint32{}}
	if from.AllowStale {
		s.read = mvcc.ReadOptions{Mode: mvcc.Stale, MaxStale: from.MaxStale}
	}
	var err error
	if s.nodeTTL, err = seconds("node_ttl", from.NodeTTL); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(from.ServiceTTL)) {
		ttl, err := seconds("service_ttl of "+name, from.ServiceTTL[name])
		if err != nil {
			return nil, err
		}
		if prefix, ok := strings.CutSuffix(strings.ToLower(name), "*"); ok {
			s.prefixTTL = append(s.prefixTTL, prefixTTL{prefix, ttl})
		} else {
			s.exactTTL[strings.ToLower(name)] = ttl
		}
	}
	slices.SortStableFunc(s.prefixTTL, func(a, b prefixTTL) int {
		return cmp.Compare(len(b.prefix), len(a.prefix))
	})
	return s, nil
}

// seconds is a duration as a TTL, which has 31 bits (RFC 2181 §8).
func seconds(what string, d time.Duration) (uint32, error) {
	const most = 1<<31 - 1
	if d < 0 || d/time.Second > most {
		return 0, fmt.Errorf("%s must be from 0s to %ds, got %s", what, most, d)
	}
	return uint32(d / time.Second), nil
}

// serviceTTL is the TTL for a service by its name in lower case.
func (s *settings) serviceTTL(service string) uint32 {
	if ttl, ok := s.exactTTL[service]; ok {
		return ttl
	}
	for _, p := range s.prefixTTL {
		if strings.HasPrefix(service, p.prefix) {
			return p.ttl
		}
	}
	return 0
}
