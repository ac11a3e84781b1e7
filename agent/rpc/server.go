package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// ServerConfig is what a [Server] is made of.
type ServerConfig struct {
	// Listener gives out connections that speak [ProtocolCalls], as
	// [Mux.Calls] does. The Server closes it.
	Listener net.Listener
	// Handler answers the calls.
	Handler Handler
	// Broke, if it is set, is called with the node ID of an agent, by its
	// requests, when the last connection of it ended, for whatever reason but
	// the Server's own end. It must not block.
	Broke func(id string)
	// StopTimeout is how long calls may take to end once the Server stops;
	// zero is [DefaultStopTimeout].
	StopTimeout time.Duration
	// Logger takes what went wrong; nil drops it.
	Logger *slog.Logger
}

// Server answers the calls of other agents.
type Server struct{ cfg ServerConfig }

// NewServer returns a Server. Nothing is accepted before Run.
func NewServer(cfg ServerConfig) *Server { return &Server{cfg: cfg} }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return errors.Join(s.cfg.Listener.Close())
}
