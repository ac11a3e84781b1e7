package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Listeners are the sockets of an agent.
type Listeners struct {
	// HTTP are those of the HTTP interface, TCP or Unix.
	HTTP []net.Listener
	// DNSPackets and DNSStreams are those of DNS, in pairs of one address.
	DNSPackets []net.PacketConn
	DNSStreams []net.Listener
	// Server is the server port.
	Server net.Listener
}

// bind opens every socket that was not handed in. A port in use is an error
// that says which setting wants it.
func (a *Agent) bind() error {
	c := a.config
	if c.Server && a.sockets.Server == nil {
		address := net.JoinHostPort(c.BindAddr.String(), strconv.Itoa(c.Ports.Server))
		l, err := net.Listen("tcp", address)
		if err != nil {
			return bindError("server", "ports.server", address, err)
		}
		a.sockets.Server = l
	}
	if c.Server {
		a.closes("server port", a.sockets.Server.Close)
	}
	given := a.sockets.HTTP
	a.sockets.HTTP = nil
	for _, l := range given {
		a.takeHTTP(l)
	}
	if given == nil {
		for _, address := range c.HTTPAddrs {
			l, err := a.listenHTTP(address)
			if err != nil {
				return err
			}
			a.takeHTTP(l)
		}
	}
	if a.sockets.DNSPackets == nil {
		for _, address := range c.DNSAddrs {
			if err := a.listenDNS(address); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeGiven makes the agent the owner of the sockets that were handed in, so
// that they are closed even if New fails before it comes to bind.
func (a *Agent) takeGiven() error {
	if a.sockets.Server != nil {
		a.closes("server port", a.sockets.Server.Close)
	}
	for _, l := range a.sockets.HTTP {
		a.closes("HTTP listener", l.Close)
	}
	for _, c := range a.sockets.DNSPackets {
		a.closes("DNS socket", c.Close)
	}
	for _, l := range a.sockets.DNSStreams {
		a.closes("DNS listener", l.Close)
	}
	return nil
}

// takeHTTP puts a listener among those of HTTP.
func (a *Agent) takeHTTP(l net.Listener) {
	l = limitPerClient(l, a.config.HTTPMaxConnsPerClient)
	a.sockets.HTTP = append(a.sockets.HTTP, l)
	a.closes("HTTP listener", l.Close)
}

// closes undoes a bind. A socket that was closed in an orderly stop already is
// not closed twice.
func (a *Agent) closes(name string, fn func() error) {
	a.undo.push(name, func() error {
		if err := fn(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
}

func (a *Agent) listenHTTP(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix://")
	if !unix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, bindError("HTTP", "ports.http", address, err)
		}
		return l, nil
	}
	if err := a.removeStale(path); err != nil {
		return nil, bindError("HTTP", "addresses.http", address, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, bindError("HTTP", "addresses.http", address, err)
	}
	if err := a.ownSocket(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that an earlier agent left behind. What is no
// socket, or has somebody behind it, stays and is an error.
func (a *Agent) removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is not a socket stands there: move it away, or choose another path")
	}
	if conn, err := net.DialTimeout("unix", path, socketProbe); err == nil {
		_ = conn.Close()
		return errors.New("another process listens there")
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	a.logger.Warn("Removed a socket that nobody listens on", "path", path)
	return nil
}

// ownSocket gives a socket the configured owner and mode.
func (a *Agent) ownSocket(path string) error {
	c := a.config
	if c.UnixSocketMode != "" {
		mode, err := strconv.ParseUint(c.UnixSocketMode, 8, 32)
		if err != nil {
			return fmt.Errorf("unix_sockets.mode %q is not an octal mode", c.UnixSocketMode)
		}
		if err := os.Chmod(path, fs.FileMode(mode)); err != nil {
			return fmt.Errorf("cannot set unix_sockets.mode: %w", err)
		}
	}
	uid, gid := -1, -1
	if c.UnixSocketUser != "" {
		u, err := user.Lookup(c.UnixSocketUser)
		if err != nil {
			u, err = user.LookupId(c.UnixSocketUser)
		}
		if err != nil {
			return fmt.Errorf("unix_sockets.user %q is not known here", c.UnixSocketUser)
		}
		uid, _ = strconv.Atoi(u.Uid)
	}
	if c.UnixSocketGroup != "" {
		g, err := user.LookupGroup(c.UnixSocketGroup)
		if err != nil {
			g, err = user.LookupGroupId(c.UnixSocketGroup)
		}
		if err != nil {
			return fmt.Errorf("unix_sockets.group %q is not known here", c.UnixSocketGroup)
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return fmt.Errorf("cannot give the socket to unix_sockets.user and group: %w", err)
	}
	return nil
}

// listenDNS binds UDP and TCP of one address. With port 0 both get the port that
// the kernel chose for UDP.
func (a *Agent) listenDNS(address string) error {
	packets, streams, err := listenPair(address)
	for try := 1; err != nil && strings.HasSuffix(address, ":0") && try < portTries; try++ {
		// The kernel chose for UDP what somebody has for TCP: let it choose again.
		packets, streams, err = listenPair(address)
	}
	if err != nil {
		return bindError("DNS", "ports.dns", address, err)
	}
	a.closes("DNS socket", packets.Close)
	a.closes("DNS listener", streams.Close)
	a.sockets.DNSPackets = append(a.sockets.DNSPackets, packets)
	a.sockets.DNSStreams = append(a.sockets.DNSStreams, streams)
	return nil
}

// listenPair binds UDP and TCP of one address, both or neither.
func listenPair(address string) (net.PacketConn, net.Listener, error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, nil, err
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		return nil, nil, errors.Join(err, packets.Close())
	}
	return packets, streams, nil
}

func bindError(what, setting, address string, err error) error {
	return fmt.Errorf("cannot listen for %s on %s (see %s): %w", what, address, setting, err)
}
