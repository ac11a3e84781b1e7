package agent

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/muster-sd/muster/agent/config"
	"github.com/muster-sd/muster/api"
)

// Leave begins to take the agent out of service for good, and returns when the
// others were told.
func (s about) Leave() {
	s.a.logger.Info(PhraseAskedToLeave)
	s.a.beginLeave()
	select {
	case <-s.a.departed:
	case <-s.a.closing:
	case <-s.a.stopped:
	}
}

// beginLeave makes Run end. It may be called more than once.
func (a *Agent) beginLeave() {
	if a.left.CompareAndSwap(false, true) {
		close(a.leave)
	}
}

// Reload reads the configuration again, as it is now, and takes over what may
// change.
func (s about) Reload(context.Context) (api.ReloadReport, error) {
	report, err := s.a.Reread()
	return api.ReloadReport{Applied: reloadChanges(report.Applied), Restart: reloadChanges(report.Restart)}, err
}

func reloadChanges(changes []config.Change) []api.ReloadChange {
	var out []api.ReloadChange
	for _, c := range changes {
		out = append(out, api.ReloadChange{Key: c.Key, Text: c.Text})
	}
	return out
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
