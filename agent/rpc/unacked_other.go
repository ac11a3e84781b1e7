//go:build !linux

package rpc

import "net"

// unacked is not known here: what was written counts as having come.
func unacked(net.Conn) int { return 0 }
