package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Leave begins to take the agent out of service for good.
func (s about) Leave() { s.a.beginLeave() }

// beginLeave makes Run end. It may be called more than once.
func (a *Agent) beginLeave() {
	if a.left.CompareAndSwap(false, true) {
		close(a.leave)
	}
}

// Reload reads the configuration again, as it is now, and takes over what may
// change.
func (s about) Reload(context.Context) error {
	if s.a.load == nil {
		return errors.New("this agent cannot read its configuration again")
	}
	c, err := s.a.load()
	if err != nil {
		return err
	}
	for _, warning := range c.Warnings {
		s.a.logger.Warn(warning)
	}
	return s.a.Reload(c)
}

// ForceLeave makes a member that failed one that left. One that is alive stays
// what it is.
func (s about) ForceLeave(_ context.Context, node string, wan, _ bool) error {
	for _, m := range s.a.pool.Members() {
		name := m.Name
		if wan {
			name += "." + s.a.config.Datacenter
		}
		if name == node {
			return nil
		}
	}
	return fmt.Errorf("agent: No node found with name '%s'", node)
}

// Join makes the agent a member of the pool that an address belongs to. The
// agent's own pool it has joined already; of any other it says why it cannot.
func (s about) Join(ctx context.Context, address string, wan bool) error {
	if err := s.a.join(ctx, address, wan); err != nil {
		return fmt.Errorf("1 error occurred:\n\t* Failed to join %s: %w\n\n", address, err)
	}
	return nil
}

// errJoinLater says that agents cannot be joined in this version.
var errJoinLater = errors.New("joining other agents is not supported in this version of Muster")

func (a *Agent) join(ctx context.Context, address string, wan bool) error {
	if address == "" {
		return errors.New("an address is missing")
	}
	port := a.config.Ports.SerfLAN
	if wan {
		port = a.config.Ports.SerfWAN
	}
	target := withPort(address, port)
	if a.isOwn(target, port) {
		return nil
	}
	dialer := net.Dialer{Timeout: joinLimit}
	c, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	return errors.Join(errJoinLater, c.Close())
}

// withPort is an address with a port: its own if it has one.
func withPort(address string, port int) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), strconv.Itoa(port))
}

// isOwn reports whether an address is that of the agent's own pool.
func (a *Agent) isOwn(address string, port int) bool {
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	// Settings that switch a port off are shown to clients as 16 bits too.
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || uint16(n) != uint16(port) {
		return false
	}
	if strings.EqualFold(host, a.config.NodeName) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip == a.config.AdvertiseAddr || ip == a.config.AdvertiseAddrWAN || ip == a.config.BindAddr)
}
