package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// laterCommands are those of Consul that Muster does not have yet, and
// meshCommands those that belong to what it will not have.
var (
	laterCommands = []string{"acl", "debug", "event", "exec", "keygen", "keyring", "lock", "login", "logout", "rtt", "tls", "watch"}
	meshCommands  = []string{"config", "connect", "intention", "license", "namespace", "partition", "peering", "resource", "troubleshoot"}
)

// unknown says that a group has no command of a name, and what may have been meant.
func (c *command) unknown(name string) string {
	text := fmt.Sprintf("there is no command %q", c.path+" "+name)
	if c.isRoot() {
		for _, later := range laterCommands {
			if name == later {
				return text + ": it is not supported yet"
			}
		}
		for _, never := range meshCommands {
			if name == never {
				return text + ": Muster has no service mesh, namespaces, partitions or licences"
			}
		}
	}
	best, distance := "", len(name)/3+2
	for _, child := range c.children {
		d := editDistance(name, child.name)
		if len(name) > 2 && strings.HasPrefix(child.name, name) {
			d = 1
		}
		if d < distance {
			best, distance = child.name, d
		}
	}
	if best == "" {
		return text
	}
	return fmt.Sprintf("%s; did you mean %q?", text, c.path+" "+best)
}

// maxCommandName is how many bytes of a name are compared. No command is as long.
const maxCommandName = 32

// editDistance is how many bytes have to be put in, taken out or replaced to make
// one name the other.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), maxCommandName)], b[:min(len(b), maxCommandName)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// noAgentAdvice is said when nobody listens where a command asked.
const noAgentAdvice = `No agent answers there. "muster agent -h" tells how to start one; the flag
-http-addr or the environment variable MUSTER_HTTP_ADDR says where it is.
`

// nobodyThere reports whether a request failed because nobody listens at its
// address, or because there is no such address.
func nobodyThere(err error) bool {
	var request *url.Error
	if !errors.As(err, &request) {
		return false
	}
	var lookup *net.DNSError
	var dial *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &lookup) ||
		errors.As(err, &dial) && dial.Op == "dial" && errors.Is(err, os.ErrNotExist)
}
