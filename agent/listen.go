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
	if a.sockets.Server == nil {
		address := net.JoinHostPort(c.BindAddr.String(), strconv.Itoa(c.Ports.Server))
		l, err := net.Listen("tcp", address)
		if err != nil {
			return bindError("server", "ports.server", address, err)
		}
		a.sockets.Server = l
	}
	a.closes("server port", a.sockets.Server.Close)
	if a.sockets.HTTP == nil {
		for _, address := range c.HTTPAddrs {
			l, err := a.listenHTTP(address)
			if err != nil {
				return err
			}
			a.sockets.HTTP = append(a.sockets.HTTP, l)
			a.closes("HTTP listener", l.Close)
		}
	}
	for i, l := range a.sockets.HTTP {
		a.sockets.HTTP[i] = limitPerClient(l, c.HTTPMaxConnsPerClient)
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
	if err := os.Remove(path); err == nil {
		a.logger.Warn("Removed the file that stood where a socket is to be", "path", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
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
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return bindError("DNS", "ports.dns", address, err)
	}
	a.closes("DNS socket", packets.Close)
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		return bindError("DNS", "ports.dns", address, err)
	}
	a.closes("DNS listener", streams.Close)
	a.sockets.DNSPackets = append(a.sockets.DNSPackets, packets)
	a.sockets.DNSStreams = append(a.sockets.DNSStreams, streams)
	return nil
}

func bindError(what, setting, address string, err error) error {
	return fmt.Errorf("cannot listen for %s on %s (see %s): %w", what, address, setting, err)
}
