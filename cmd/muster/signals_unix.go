//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// ignoreSignals keeps two signals from ending the agent: SIGPIPE, or a reader
// of the log that goes away would take the agent with it, and SIGUSR1, which
// scripts send to agents of this kind for a dump of metrics.
func ignoreSignals() { signal.Ignore(syscall.SIGPIPE, syscall.SIGUSR1) }
