package dnsserver

import "net/netip"

// smallSet is how many members a set searches one by one.
const smallSet = 16

// set is a set that is cheap while it is small, and can be used again.
type set[K comparable] struct {
	few  []K
	many map[K]struct{}
}

// add adds a member and reports whether it was not there.
func (s *set[K]) add(key K) bool {
	if len(s.many) == 0 {
		for _, k := range s.few {
			if k == key {
				return false
			}
		}
		if len(s.few) < smallSet {
			s.few = append(s.few, key)
			return true
		}
		if s.many == nil {
			s.many = make(map[K]struct{}, 4*smallSet)
		}
		for _, k := range s.few {
			s.many[k] = struct{}{}
		}
	}
	before := len(s.many)
	s.many[key] = struct{}{}
	return len(s.many) > before
}

// reset takes all members out.
func (s *set[K]) reset() {
	clear(s.few)
	s.few = s.few[:0]
	clear(s.many)
}

// addressSet is an empty set of addresses.
func (m *memory) addressSet() *set[netip.Addr] {
	m.seenAddresses.reset()
	return &m.seenAddresses
}

// serviceSet is an empty set of instances.
func (m *memory) serviceSet() *set[serviceKey] {
	m.seenServices.reset()
	return &m.seenServices
}
