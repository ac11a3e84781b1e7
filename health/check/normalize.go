package check

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// Keys of tagged addresses that are filled in from an instance's address.
const (
	lanIPv4 = "lan_ipv4"
	wanIPv4 = "wan_ipv4"
	lanIPv6 = "lan_ipv6"
	wanIPv6 = "wan_ipv6"
)

// Normalize fills in what may be left out of a registration: the ID, weights,
// tagged addresses, and the IDs, names and first states of its checks. It does
// not write to maps or slices that the caller may share. Doing it twice is the
// same as once.
func (r *Registration) Normalize() {
	s := &r.Service
	if s.ID == "" {
		s.ID = s.Name
	}
	if s.Weights == (catalog.Weights{}) {
		s.Weights = catalog.Weights{Passing: 1, Warning: 1}
	}
	s.TaggedAddresses = taggedAddresses(s)
	r.Checks = slices.Clone(r.Checks)
	for i := range r.Checks {
		c := &r.Checks[i]
		if c.ID == "" {
			c.ID = "service:" + s.ID
			if len(r.Checks) > 1 {
				c.ID += ":" + strconv.Itoa(i+1)
			}
		}
		if c.Name == "" {
			c.Name = "Service '" + s.Name + "' check"
		}
		c.ServiceID = s.ID
		c.Normalize()
	}
}

// Normalize fills in what may be left out of a check: the ID is its name, the
// first state critical.
func (d *Definition) Normalize() {
	if d.ID == "" {
		d.ID = d.Name
	}
	if d.Status == "" {
		d.Status = health.Critical
	}
}

// taggedAddresses returns the tagged addresses of s, with those of its address'
// family filled in.
func taggedAddresses(s *catalog.Service) map[string]catalog.ServiceAddress {
	ip, err := netip.ParseAddr(s.Address)
	if err != nil {
		return s.TaggedAddresses
	}
	keys := [2]string{lanIPv6, wanIPv6}
	if ip.Unmap().Is4() {
		keys = [2]string{lanIPv4, wanIPv4}
	}
	out := make(map[string]catalog.ServiceAddress, len(s.TaggedAddresses)+len(keys))
	maps.Copy(out, s.TaggedAddresses)
	for _, key := range keys {
		if _, ok := out[key]; !ok {
			out[key] = catalog.ServiceAddress{Address: s.Address, Port: s.Port}
		}
	}
	return out
}
