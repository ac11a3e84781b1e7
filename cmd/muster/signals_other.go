//go:build !unix

package main

// ignoreSignals does nothing where there are no Unix signals.
func ignoreSignals() {}
