package dnsserver

import (
	"github.com/miekg/dns"

	"github.com/muster-sd/muster/kv/mvcc"
)

// rcodeOf is the response code for what a lookup said: a datacenter that nobody
// knows has no names in it, and any other failure is the server's.
func rcodeOf(err error) int {
	switch mvcc.CodeOf(err) {
	case 0:
		return dns.RcodeSuccess
	case mvcc.NoPath:
		return dns.RcodeNameError
	default:
		return dns.RcodeServerFailure
	}
}
