package agent

import (
	"net"
	"os"
)

// notifyReady tells systemd once that this agent has joined its cluster, if it was
// started by a unit of Type=notify (sd_notify(3)).
func (a *Agent) notifyReady() {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || !a.notified.CompareAndSwap(false, true) {
		return
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte("READY=1"))
		_ = conn.Close()
	}
	if err != nil {
		a.logger.Warn("cannot tell systemd that the agent is ready", "error", err)
	}
}
