package dnsserver

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Run answers queries by UDP and TCP until ctx ends or a socket fails for good.
// It then reads no more queries, answers those under way, closes the sockets and
// waits for all its goroutines. It may be called once.
func (s *Server) Run(ctx context.Context) error {
	ending, end := context.WithCancel(ctx)
	defer end()
	work, cancelWork := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelWork()

	packets, err := s.packetServers(ending, work)
	if err != nil {
		s.closeSockets()
		return err
	}
	streams := s.streamServers(ending, work)

	var group sync.WaitGroup
	failures := make(chan error, len(packets)+len(streams))
	serve := func(run func() error) {
		group.Go(func() {
			if err := run(); err != nil {
				failures <- err
				end()
			}
		})
	}
	for _, p := range packets {
		serve(p.run)
	}
	for _, t := range streams {
		serve(t.run)
	}

	<-ending.Done()
	for _, p := range packets {
		p.socket.conn.SetReadDeadline(time.Unix(1, 0))
	}
	for _, t := range streams {
		t.stop()
	}
	drained := time.AfterFunc(drainTimeout, cancelWork)
	group.Wait()
	drained.Stop()
	s.closeSockets()
	close(failures)
	var all []error
	for err := range failures {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func (s *Server) packetServers(ending, work context.Context) ([]*packetServer, error) {
	slots := make(chan struct{}, max(maxUDPQueries, len(s.config.PacketConns)))
	var all []*packetServer
	for _, conn := range s.config.PacketConns {
		socket, err := newPacketSocket(conn)
		if err != nil {
			return nil, err
		}
		slots <- struct{}{} // each socket has a reader of its own
		all = append(all, &packetServer{server: s, socket: socket, ending: ending, work: work, slots: slots})
	}
	return all, nil
}

func (s *Server) streamServers(ending, work context.Context) []*streamServer {
	slots := make(chan struct{}, maxTCPConnections)
	var all []*streamServer
	for _, l := range s.config.Listeners {
		all = append(all, &streamServer{
			server: s, listener: l, ending: ending, work: work, slots: slots, conns: map[net.Conn]struct{}{},
		})
	}
	return all
}

func (s *Server) closeSockets() {
	for _, c := range s.config.PacketConns {
		c.Close()
	}
	for _, l := range s.config.Listeners {
		l.Close()
	}
}
