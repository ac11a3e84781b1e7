package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Config is what a server is made of.
type Config struct {
	// Datacenter and NodeName are the agent's own.
	Datacenter, NodeName string
	// Domain is the zone that the server has authority over, and AltDomain, if it
	// is not empty, a second name of it. Both are in lower case with a trailing dot.
	Domain, AltDomain string
	Settings          Settings
	// PacketConns and Listeners are the bound UDP and TCP sockets. [Server.Run]
	// closes them.
	PacketConns []net.PacketConn
	Listeners   []net.Listener
	Lookup      Lookup
	// Now is the time for serial numbers; nil is [time.Now].
	Now func() time.Time
	// Random orders answers. It has to be safe for concurrent use; nil is the
	// runtime's source.
	Random rand.Source
	// Measure is told of each query, by the mnemonic of its type, how long the
	// answer took. It may be nil.
	Measure func(kind string, took time.Duration)
	Logger  *slog.Logger
}

// Transport is how a query came.
type Transport uint8

const (
	// UDP is a query in a packet, whose reply has to be small.
	UDP Transport = iota
	// TCP is a query in a stream, whose reply may have up to 64 KiB.
	TCP
)

// Server answers DNS queries. It is safe for concurrent use.
type Server struct {
	config   Config
	zones    []zone
	random   *rand.Rand
	settings atomic.Pointer[settings]
	// scratches are *scratch for queries to come.
	scratches sync.Pool
	// lastFailure is when a failed lookup was last logged, in Unix nanoseconds.
	lastFailure atomic.Int64
}

// New makes a server, which serves nothing before [Server.Run]. It fails if a
// domain or a setting is not valid.
func New(c Config) (*Server, error) {
	if c.Lookup == nil {
		return nil, errors.New("a DNS server needs a lookup")
	}
	if err := checkDomain("domain", c.Domain); err != nil {
		return nil, err
	}
	if c.AltDomain != "" {
		if err := checkDomain("alt_domain", c.AltDomain); err != nil {
			return nil, err
		}
	}
	if c.Datacenter == "" {
		return nil, errors.New("a DNS server needs the name of its datacenter")
	}
	c.Datacenter = strings.ToLower(c.Datacenter)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = runtimeSource{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config: c,
		zones:  newZones(c.Datacenter, c.Domain, c.AltDomain),
		random: rand.New(c.Random),
	}
	s.scratches.New = func() any { return &scratch{memory: *newMemory()} }
	return s, s.Reload(c.Settings)
}

// checkDomain refuses what could not be matched.
func checkDomain(what, domain string) error {
	if domain == "." || !validName(domain) || domain != strings.ToLower(domain) {
		return fmt.Errorf("%s %q is not a domain in lower case with a trailing dot", what, domain)
	}
	return nil
}

// Reload replaces the settings for the queries to come. It fails, and leaves
// everything as it was, if one is not valid.
func (s *Server) Reload(from Settings) error {
	set, err := newSettings(from)
	if err != nil {
		return err
	}
	s.settings.Store(set)
	return nil
}

// runtimeSource is the runtime's own source of random numbers.
type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }

// Answer returns the reply to a query that came by a transport. The reply fits
// into what the client can take.
func (s *Server) Answer(ctx context.Context, request *dns.Msg, transport Transport) *dns.Msg {
	reply := new(dns.Msg)
	s.answer(ctx, request, reply, transport, newMemory())
	return reply
}

// kindOf is the mnemonic of a type of query (RFC 1035 §3.2.2), or "other" for one
// that has none.
func kindOf(qtype uint16) string {
	if name, ok := dns.TypeToString[qtype]; ok {
		return name
	}
	return "other"
}

// answer writes the reply to a query, whose records stand in m.
func (s *Server) answer(ctx context.Context, request, reply *dns.Msg, transport Transport, m *memory) {
	setReplyHeader(reply, request)
	if len(request.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
		return
	}
	question := request.Question[0]
	if s.config.Measure != nil {
		began := time.Now()
		defer func() { s.config.Measure(kindOf(question.Qtype), time.Since(began)) }()
	}
	reply.Question = request.Question
	reply.Answer, reply.Extra = m.answers, m.extra
	set := s.settings.Load()
	reply.Compress = !set.DisableCompression

	opt := request.IsEdns0()
	if opt != nil && opt.Version() != 0 {
		reply.Rcode = dns.RcodeBadVers
		reply.Extra = append(reply.Extra, replyOPT(opt))
		return
	}
	limit := boundsOf(set, question.Qtype, opt, transport)
	q := query{
		server:   s,
		ctx:      ctx,
		settings: set,
		random:   s.random,
		reply:    reply,
		sized:    opt != nil,
		room:     min(limit.answers, limit.size/minRecordSize),
		glueEnds: m.ends,
		memory:   m,
	}
	q.ask(question.Name, question.Qtype)
	q.resolve()
	m.answers, m.extra, m.ends = reply.Answer, reply.Extra, q.glueEnds

	var echo *dns.OPT
	if opt != nil {
		echo = replyOPT(opt)
		limit.size -= dns.Len(echo)
	}
	cut, overflow := trim(reply, limit, q.glueEnds, m)
	// A reply without its only answer would say that there is none.
	reply.Truncated = overflow || cut && transport == UDP && set.EnableTruncate
	if echo != nil {
		reply.Extra = append(reply.Extra, echo)
	}
}

// boundsOf is what the reply to a query has to fit into.
func boundsOf(set *settings, qtype uint16, opt *dns.OPT, transport Transport) bounds {
	switch {
	case transport == TCP && qtype == dns.TypeSRV:
		return bounds{answers: maxTCPServices, size: maxTCPSize}
	case transport == TCP:
		return bounds{answers: maxTCPAnswers, size: maxTCPSize}
	case opt != nil && opt.UDPSize() > plainUDPSize:
		size := min(int(opt.UDPSize()), maxUDPSize)
		return bounds{answers: size, size: size}
	default:
		return bounds{answers: min(set.UDPAnswerLimit, maxPlainUDPAnswers), size: plainUDPSize, plain: true}
	}
}

// setReplyHeader makes reply an empty reply to request.
func setReplyHeader(reply, request *dns.Msg) {
	*reply = dns.Msg{MsgHdr: dns.MsgHdr{
		Id:               request.Id,
		Response:         true,
		Opcode:           request.Opcode,
		RecursionDesired: request.RecursionDesired,
	}}
}

// replyOPT answers a client's OPT record (RFC 6891 §6.1). A client's subnet comes
// back with a scope of zero: the answer is for everybody (RFC 7871 §7.2.1).
func replyOPT(asked *dns.OPT) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(asked.UDPSize())
	for _, o := range asked.Option {
		if subnet, ok := o.(*dns.EDNS0_SUBNET); ok {
			echo := *subnet
			echo.SourceScope = 0
			opt.Option = append(opt.Option, &echo)
			break
		}
	}
	return opt
}

// noteFailure logs that a lookup failed, now and then.
func (s *Server) noteFailure(name string, err error) {
	now := s.config.Now().UnixNano()
	last := s.lastFailure.Load()
	if now-last >= int64(failureLogInterval) && s.lastFailure.CompareAndSwap(last, now) {
		s.config.Logger.Warn("DNS lookup failed", "name", name, "error", err)
	}
}
