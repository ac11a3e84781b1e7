package state

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
)

// The instances of a service with their health are what agents ask for most, so
// they are written and read here by hand, in msgpack as everything else, with
// these differences to what the library would write:
//
//   - A field that is zero is left out. A list or map that is there and empty is
//     written: it is not the same as none.
//   - A node that is the very one of the entry before is written as 0, and a check
//     that is the very one at the same place of the entry before as that place.
//
// Whoever reads gets rows that share as much: nodes and checks as above, and
// lists and maps that are equal to those of the entry before. All texts are parts
// of one string.

// appendEntries appends the body of an answer to a [health.ServiceQuery].
func appendEntries(b []byte, entries []health.Entry) []byte {
	if entries == nil {
		return append(b, packNil)
	}
	p := packers.Get().(*packer)
	p.b = p.b[:0]
	p.arrayHead(len(entries))
	for i := range entries {
		before := &health.Entry{}
		if i > 0 {
			before = &entries[i-1]
		}
		p.entry(&entries[i], before)
	}
	b = append(slices.Grow(b, len(p.b)), p.b...)
	if cap(p.b) <= maxKeptPack {
		packers.Put(p)
	}
	return b
}

// packers are kept because growing one costs more than copying out of it.
var packers = sync.Pool{New: func() any { return &packer{} }}

func (p *packer) entry(e, before *health.Entry) {
	m := p.begin()
	if e.Node != nil {
		p.key(&m, "Node")
		if e.Node == before.Node {
			p.b = append(p.b, 0)
		} else {
			p.node(e.Node)
		}
	}
	if e.Service != nil {
		p.key(&m, "Service")
		p.service(e.Service)
	}
	if e.Checks != nil {
		p.key(&m, "Checks")
		p.arrayHead(len(e.Checks))
		for i, c := range e.Checks {
			switch {
			case c == nil:
				p.b = append(p.b, packNil)
			case i < len(before.Checks) && c == before.Checks[i]:
				p.unsigned(uint64(i))
			default:
				p.check(c)
			}
		}
	}
	p.end(m)
}

func (p *packer) node(n *catalog.Node) {
	m := p.begin()
	p.text(&m, "ID", n.ID)
	p.text(&m, "Name", n.Name)
	p.text(&m, "Address", n.Address)
	p.textMap(&m, "TaggedAddresses", n.TaggedAddresses)
	p.textMap(&m, "Meta", n.Meta)
	p.locality(&m, n.Locality)
	p.number(&m, "CreateIndex", n.CreateIndex)
	p.number(&m, "ModifyIndex", n.ModifyIndex)
	p.end(m)
}

func (p *packer) locality(m *fields, l *catalog.Locality) {
	if l == nil {
		return
	}
	p.key(m, "Locality")
	inner := p.begin()
	p.text(&inner, "Region", l.Region)
	p.text(&inner, "Zone", l.Zone)
	p.end(inner)
}

func (p *packer) service(s *catalog.Service) {
	m := p.begin()
	p.text(&m, "Node", s.Node)
	p.text(&m, "ID", s.ID)
	p.text(&m, "Name", s.Name)
	p.text(&m, "Kind", s.Kind)
	p.texts(&m, "Tags", s.Tags)
	p.text(&m, "Address", s.Address)
	if s.TaggedAddresses != nil {
		p.key(&m, "TaggedAddresses")
		p.mapHead(len(s.TaggedAddresses))
		for _, k := range sortedKeys(p, s.TaggedAddresses) {
			a := s.TaggedAddresses[k]
			p.rawText(k)
			inner := p.begin()
			p.text(&inner, "Address", a.Address)
			p.integer(&inner, "Port", int64(a.Port))
			p.end(inner)
		}
	}
	p.textMap(&m, "Meta", s.Meta)
	p.integer(&m, "Port", int64(s.Port))
	p.text(&m, "SocketPath", s.SocketPath)
	if s.Weights != (catalog.Weights{}) {
		p.key(&m, "Weights")
		inner := p.begin()
		p.integer(&inner, "Passing", int64(s.Weights.Passing))
		p.integer(&inner, "Warning", int64(s.Weights.Warning))
		p.end(inner)
	}
	p.flag(&m, "EnableTagOverride", s.EnableTagOverride)
	p.locality(&m, s.Locality)
	if s.Proxy != nil {
		p.key(&m, "Proxy")
		p.bytes(s.Proxy)
	}
	p.flag(&m, "Native", s.Native)
	p.number(&m, "CreateIndex", s.CreateIndex)
	p.number(&m, "ModifyIndex", s.ModifyIndex)
	p.end(m)
}

func (p *packer) check(c *health.Check) {
	m := p.begin()
	p.text(&m, "Node", c.Node)
	p.text(&m, "ID", c.ID)
	p.text(&m, "Name", c.Name)
	p.text(&m, "Status", string(c.Status))
	p.text(&m, "Notes", c.Notes)
	p.text(&m, "Output", c.Output)
	p.text(&m, "ServiceID", c.ServiceID)
	p.text(&m, "ServiceName", c.ServiceName)
	p.texts(&m, "ServiceTags", c.ServiceTags)
	p.text(&m, "Type", c.Type)
	p.text(&m, "Interval", c.Interval)
	p.text(&m, "Timeout", c.Timeout)
	p.integer(&m, "ExposedPort", int64(c.ExposedPort))
	p.definition(&m, &c.Definition)
	p.number(&m, "CreateIndex", c.CreateIndex)
	p.number(&m, "ModifyIndex", c.ModifyIndex)
	p.end(m)
}

// definition writes how a check is run, unless nothing is said of it.
func (p *packer) definition(outer *fields, d *health.Definition) {
	start, count := len(p.b), outer.n
	p.key(outer, "Definition")
	m := p.begin()
	p.text(&m, "HTTP", d.HTTP)
	p.text(&m, "TLSServerName", d.TLSServerName)
	p.flag(&m, "TLSSkipVerify", d.TLSSkipVerify)
	if d.Header != nil {
		p.key(&m, "Header")
		p.mapHead(len(d.Header))
		for _, k := range sortedKeys(p, d.Header) {
			p.rawText(k)
			p.rawTexts(d.Header[k])
		}
	}
	p.text(&m, "Method", d.Method)
	p.text(&m, "Body", d.Body)
	p.flag(&m, "DisableRedirects", d.DisableRedirects)
	p.text(&m, "TCP", d.TCP)
	p.flag(&m, "TCPUseTLS", d.TCPUseTLS)
	p.text(&m, "UDP", d.UDP)
	p.text(&m, "H2PING", d.H2PING)
	p.flag(&m, "H2PingUseTLS", d.H2PingUseTLS)
	p.text(&m, "OSService", d.OSService)
	p.integer(&m, "Interval", int64(d.Interval))
	p.integer(&m, "Timeout", int64(d.Timeout))
	p.integer(&m, "TTL", int64(d.TTL))
	p.integer(&m, "DeregisterCriticalServiceAfter", int64(d.DeregisterCriticalServiceAfter))
	p.integer(&m, "OutputMaxSize", int64(d.OutputMaxSize))
	p.texts(&m, "ScriptArgs", d.ScriptArgs)
	p.text(&m, "DockerContainerID", d.DockerContainerID)
	p.text(&m, "Shell", d.Shell)
	p.text(&m, "GRPC", d.GRPC)
	p.flag(&m, "GRPCUseTLS", d.GRPCUseTLS)
	p.text(&m, "AliasNode", d.AliasNode)
	p.text(&m, "AliasService", d.AliasService)
	p.text(&m, "SessionName", d.SessionName)
	p.end(m)
	if m.n == 0 {
		p.b, outer.n = p.b[:start], count
	}
}

// readEntries reads what appendEntries wrote. A field that it does not know is
// passed over.
func readEntries(b []byte) ([]health.Entry, error) {
	u := &unpacker{s: string(b)}
	n, there := u.arrayHead()
	if !there {
		return nil, u.whole()
	}
	entries := make([]health.Entry, 0, min(n, maxFirstRows))
	before := &health.Entry{}
	for u.left = n; u.left > 0 && u.err == nil; u.left-- {
		entries = append(entries, u.entry(before))
		before = &entries[len(entries)-1]
	}
	if err := u.whole(); err != nil {
		return nil, err
	}
	return entries, nil
}

// errNoEntryBefore says that a row is said to be that of an entry that has none.
var errNoEntryBefore = errors.New("a row is said to be that of the entry before, which has none")

func (u *unpacker) entry(before *health.Entry) health.Entry {
	var e health.Entry
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "Node":
			if _, same := u.reference(); !same {
				e.Node = u.node()
			} else if e.Node = before.Node; e.Node == nil {
				u.fail(errNoEntryBefore)
			}
		case "Service":
			if !u.null() {
				e.Service = u.service()
			}
		case "Checks":
			e.Checks = u.checks(before.Checks)
		default:
			u.skip(0)
		}
	}
	return e
}

func (u *unpacker) checks(before []*health.Check) []*health.Check {
	n, there := u.arrayHead()
	if !there {
		return nil
	}
	checks := make([]*health.Check, 0, min(n, maxFirstRows))
	for ; n > 0 && u.err == nil; n-- {
		if u.null() {
			checks = append(checks, nil)
			continue
		}
		i, same := u.reference()
		switch {
		case !same:
			checks = append(checks, u.check())
		case i < uint64(len(before)) && before[i] != nil:
			checks = append(checks, before[i])
		default:
			u.fail(errNoEntryBefore)
		}
	}
	return checks
}

func (u *unpacker) node() *catalog.Node {
	if u.null() {
		return nil
	}
	r := u.nodes.next(u.left)
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "ID":
			r.ID = u.text()
		case "Name":
			r.Name = u.text()
		case "Address":
			r.Address = u.text()
		case "TaggedAddresses":
			r.TaggedAddresses = shared(u, &u.last.nodeAddresses, (*unpacker).textMap)
		case "Meta":
			r.Meta = shared(u, &u.last.nodeMeta, (*unpacker).textMap)
		case "Locality":
			r.Locality = shared(u, &u.last.locality, (*unpacker).locality)
		case "CreateIndex":
			r.CreateIndex = u.unsigned()
		case "ModifyIndex":
			r.ModifyIndex = u.unsigned()
		default:
			u.skip(0)
		}
	}
	return r
}

func (u *unpacker) locality() *catalog.Locality {
	if u.null() {
		return nil
	}
	l := new(catalog.Locality)
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "Region":
			l.Region = u.text()
		case "Zone":
			l.Zone = u.text()
		default:
			u.skip(0)
		}
	}
	return l
}

func (u *unpacker) service() *catalog.Service {
	r := u.services.next(u.left)
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "Node":
			r.Node = u.text()
		case "ID":
			r.ID = u.text()
		case "Name":
			r.Name = u.text()
		case "Kind":
			r.Kind = u.text()
		case "Tags":
			r.Tags = shared(u, &u.last.tags, (*unpacker).texts)
		case "Address":
			r.Address = u.text()
		case "TaggedAddresses":
			r.TaggedAddresses = shared(u, &u.last.serviceAddresses, (*unpacker).serviceAddresses)
		case "Meta":
			r.Meta = shared(u, &u.last.serviceMeta, (*unpacker).textMap)
		case "Port":
			r.Port = int(u.integer())
		case "SocketPath":
			r.SocketPath = u.text()
		case "Weights":
			r.Weights = u.weights()
		case "EnableTagOverride":
			r.EnableTagOverride = u.flag()
		case "Locality":
			r.Locality = shared(u, &u.last.locality, (*unpacker).locality)
		case "Proxy":
			r.Proxy = u.bytes()
		case "Native":
			r.Native = u.flag()
		case "CreateIndex":
			r.CreateIndex = u.unsigned()
		case "ModifyIndex":
			r.ModifyIndex = u.unsigned()
		default:
			u.skip(0)
		}
	}
	return r
}

func (u *unpacker) weights() (w catalog.Weights) {
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "Passing":
			w.Passing = int(u.integer())
		case "Warning":
			w.Warning = int(u.integer())
		default:
			u.skip(0)
		}
	}
	return w
}

func (u *unpacker) serviceAddresses() map[string]catalog.ServiceAddress {
	if u.null() {
		return nil
	}
	n := u.mapHead()
	out := make(map[string]catalog.ServiceAddress, min(n, maxFirstPairs))
	for ; n > 0 && u.err == nil; n-- {
		key := u.text()
		var a catalog.ServiceAddress
		for n := u.mapHead(); n > 0 && u.err == nil; n-- {
			switch u.text() {
			case "Address":
				a.Address = u.text()
			case "Port":
				a.Port = int(u.integer())
			default:
				u.skip(0)
			}
		}
		out[key] = a
	}
	return out
}

func (u *unpacker) check() *health.Check {
	r := u.checkRows.next(u.left)
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "Node":
			r.Node = u.text()
		case "ID":
			r.ID = u.text()
		case "Name":
			r.Name = u.text()
		case "Status":
			r.Status = health.Status(u.text())
		case "Notes":
			r.Notes = u.text()
		case "Output":
			r.Output = u.text()
		case "ServiceID":
			r.ServiceID = u.text()
		case "ServiceName":
			r.ServiceName = u.text()
		case "ServiceTags":
			r.ServiceTags = shared(u, &u.last.tags, (*unpacker).texts)
		case "Type":
			r.Type = u.text()
		case "Interval":
			r.Interval = u.text()
		case "Timeout":
			r.Timeout = u.text()
		case "ExposedPort":
			r.ExposedPort = int(u.integer())
		case "Definition":
			u.definition(&r.Definition)
		case "CreateIndex":
			r.CreateIndex = u.unsigned()
		case "ModifyIndex":
			r.ModifyIndex = u.unsigned()
		default:
			u.skip(0)
		}
	}
	return r
}

func (u *unpacker) definition(d *health.Definition) {
	for n := u.mapHead(); n > 0 && u.err == nil; n-- {
		switch u.text() {
		case "HTTP":
			d.HTTP = u.text()
		case "TLSServerName":
			d.TLSServerName = u.text()
		case "TLSSkipVerify":
			d.TLSSkipVerify = u.flag()
		case "Header":
			d.Header = shared(u, &u.last.header, (*unpacker).header)
		case "Method":
			d.Method = u.text()
		case "Body":
			d.Body = u.text()
		case "DisableRedirects":
			d.DisableRedirects = u.flag()
		case "TCP":
			d.TCP = u.text()
		case "TCPUseTLS":
			d.TCPUseTLS = u.flag()
		case "UDP":
			d.UDP = u.text()
		case "H2PING":
			d.H2PING = u.text()
		case "H2PingUseTLS":
			d.H2PingUseTLS = u.flag()
		case "OSService":
			d.OSService = u.text()
		case "Interval":
			d.Interval = time.Duration(u.integer())
		case "Timeout":
			d.Timeout = time.Duration(u.integer())
		case "TTL":
			d.TTL = time.Duration(u.integer())
		case "DeregisterCriticalServiceAfter":
			d.DeregisterCriticalServiceAfter = time.Duration(u.integer())
		case "OutputMaxSize":
			d.OutputMaxSize = int(u.integer())
		case "ScriptArgs":
			d.ScriptArgs = u.texts()
		case "DockerContainerID":
			d.DockerContainerID = u.text()
		case "Shell":
			d.Shell = u.text()
		case "GRPC":
			d.GRPC = u.text()
		case "GRPCUseTLS":
			d.GRPCUseTLS = u.flag()
		case "AliasNode":
			d.AliasNode = u.text()
		case "AliasService":
			d.AliasService = u.text()
		case "SessionName":
			d.SessionName = u.text()
		default:
			u.skip(0)
		}
	}
}

func (u *unpacker) header() map[string][]string {
	if u.null() {
		return nil
	}
	n := u.mapHead()
	out := make(map[string][]string, min(n, maxFirstPairs))
	for ; n > 0 && u.err == nil; n-- {
		key := u.text()
		out[key] = u.texts()
	}
	return out
}
