package config

import (
	"encoding/base64"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// keySizes are the lengths of gossip keys, in bytes: those of AES (FIPS 197).
var keySizes = []int{16, 24, 32}

// joins reports whether the agent is told whom to join.
func (r *resolver) joins() bool { return len(r.list("retry_join")) > 0 }

// joining says whom to join and when to give up on those who are gone.
func (r *resolver) joining() {
	c := r.out
	c.RetryJoin = r.joinAddresses("retry_join")
	if wan := r.joinAddresses("retry_join_wan"); c.Server {
		c.RetryJoinWAN = wan
	}
	c.RetryInterval = r.positive("retry_interval")
	c.RetryMax = r.number("retry_max")
	c.RejoinAfterLeave = r.yes("rejoin_after_leave")
	c.ReconnectTimeout = r.positive("reconnect_timeout")
	c.AdvertiseReconnectTimeout = r.duration("advertise_reconnect_timeout")
	c.ServerRejoinAgeMax = r.duration("server_rejoin_age_max")
	if c.ReconnectTimeout > 0 && c.ReconnectTimeout < ShortReconnect {
		r.note("reconnect_timeout", " = %v is less than %v: agents that are cut off for longer are forgotten", c.ReconnectTimeout, ShortReconnect)
	}
	if c.ServerRejoinAgeMax < MinRejoinAge {
		r.fail("server_rejoin_age_max", " must be at least %v, but is %v", MinRejoinAge, c.ServerRejoinAgeMax)
	}
	if c.Server && c.AdvertiseReconnectTimeout > 0 {
		r.note("advertise_reconnect_timeout", " has no effect: it is for agents that are no servers")
		c.AdvertiseReconnectTimeout = 0
	}
}

// joinAddresses returns the addresses of a list, with its templates filled in.
func (r *resolver) joinAddresses(path string) []string {
	var out []string
	for i, text := range r.list(path) {
		pos := r.in[path].element(i)
		text = strings.TrimSpace(text)
		if provider, ok := Provider(text); ok {
			r.warn(pos, path+": nothing is found with %q: addresses of machines in a cloud are not looked up, so name them, or a DNS name that has them all", "provider="+shorten(provider))
			out = append(out, text)
			continue
		}
		words := r.filled(pos, path, text)
		if text == "" {
			r.failElement(path, i, " must not have an empty address")
		}
		for _, word := range words {
			if !isJoinAddress(word) {
				r.failElement(path, i, " must be addresses as in \"10.0.0.1\", \"host:8301\" or \"[::1]:8301\", but one is %q", shorten(word))
			}
		}
		out = append(out, words...)
	}
	return out
}

// isJoinAddress reports whether a text is an IP address or the name of a host,
// with or without a port.
func isJoinAddress(text string) bool {
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return true
	}
	host, port, ok := text, "", strings.Contains(text, ":")
	if ok {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return false
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > MaxPort {
			return false
		}
	}
	return host != "" && !strings.ContainsAny(host, "/[],;")
}

// Provider returns the name of the provider that an entry of a list of addresses
// to join asks for them, if it does.
func Provider(text string) (name string, ok bool) {
	for word := range strings.FieldsSeq(text) {
		if name, ok := strings.CutPrefix(word, "provider="); ok {
			return name, true
		}
	}
	return "", false
}

// gossip resolves what members of the pool say to each other, and how.
func (r *resolver) gossip() {
	c := r.out
	c.Encrypt = r.key("encrypt")
	c.EncryptVerifyIncoming = r.yes("encrypt_verify_incoming")
	c.EncryptVerifyOutgoing = r.yes("encrypt_verify_outgoing")
	c.SerfLANAllowed = r.networks("serf_lan_allowed_cidrs")
	if own := c.AdvertiseAddr; own.IsValid() && len(c.SerfLANAllowed) > 0 && len(c.SerfLANAllowed) == len(r.list("serf_lan_allowed_cidrs")) &&
		!slices.ContainsFunc(c.SerfLANAllowed, func(p netip.Prefix) bool { return p.Contains(own) }) {
		r.fail("serf_lan_allowed_cidrs", " has no network that this agent's own address is in, which is %s (see advertise_addr)", own)
	}
	c.SerfLANAddr = r.address("serf_lan")
	if r.text("serf_lan") == "" {
		c.SerfLANAddr = c.BindAddr
	}
	c.GossipLAN = GossipTiming{
		GossipInterval: r.positive("gossip_lan.gossip_interval"),
		ProbeInterval:  r.positive("gossip_lan.probe_interval"),
		ProbeTimeout:   r.positive("gossip_lan.probe_timeout"),
		GossipNodes:    r.number("gossip_lan.gossip_nodes"),
		SuspicionMult:  r.number("gossip_lan.suspicion_mult"),
		RetransmitMult: r.number("gossip_lan.retransmit_mult"),
	}
}

// key returns the bytes of a gossip key. Errors say nothing of what it is.
func (r *resolver) key(path string) []byte {
	text := r.text(path)
	if text == "" {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		r.fail(path, " must be a key of 16, 24 or 32 bytes in base64, which it is not")
		return nil
	case !slices.Contains(keySizes, len(key)):
		r.fail(path, " must be a key of 16, 24 or 32 bytes in base64, but has %d bytes", len(key))
		return nil
	}
	return key
}
