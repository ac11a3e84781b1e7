//go:build !linux

package consensus

// unmapPages does nothing here.
func unmapPages(string) {}
