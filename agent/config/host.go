package config

import (
	"net"
	"net/netip"
	"os"
	"os/user"

	"github.com/hashicorp/go-sockaddr/template"
)

// host is what the configuration asks of the machine.
type host struct {
	name func() (string, error)
	// addresses are those of the interfaces that are up, without loopback ones.
	addresses func() ([]netip.Addr, error)
	// expand fills in a template of go-sockaddr.
	expand func(string) (string, error)
	// openFiles is how many files the process may have open, if that is known.
	openFiles func() (uint64, bool)
	// hasUser and hasGroup report whether there is one of the name or number.
	hasUser, hasGroup func(string) bool
}

func thisHost() host {
	return host{name: os.Hostname, addresses: interfaceAddresses, expand: template.Parse, openFiles: openFiles, hasUser: hasUser, hasGroup: hasGroup}
}

func hasUser(text string) bool {
	_, byName := user.Lookup(text)
	_, byID := user.LookupId(text)
	return byName == nil || byID == nil
}

func hasGroup(text string) bool {
	_, byName := user.LookupGroup(text)
	_, byID := user.LookupGroupId(text)
	return byName == nil || byID == nil
}

func interfaceAddresses() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var found []netip.Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				found = append(found, prefix.Addr().Unmap())
			}
		}
	}
	return found, nil
}
