package gossip

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// refusalMark begins every reason for which a member is not let in, so that
// memberlist's own line about it can be left out.
const refusalMark = "refused a member: "

// fits says why a member with these tags cannot be in this pool, or nil.
func (p *Pool) fits(m meta) error {
	for _, key := range []string{"role", "dc", "id", "vsn"} {
		if m.tags[key] == "" {
			return fmt.Errorf("its tags are malformed: there is no %q", key)
		}
	}
	if dc := m.tags["dc"]; dc != p.datacenter {
		return fmt.Errorf("it is in datacenter %q, this pool is that of %q", dc, p.datacenter)
	}
	if p.foreign(m.tags) {
		return fmt.Errorf("it belongs to cluster %s, this agent to cluster %s: %w. %s",
			m.tags[ClusterTag], p.ownCluster(), errForeign, howToMove(m.tags))
	}
	return speaks(m.tags, p.versions)
}

// ClusterTag is the tag by which a member says which cluster it belongs to, once
// it knows: members of another are refused.
const ClusterTag = "cluster"

// ownCluster is the cluster of this member, or empty while it is not known.
func (p *Pool) ownCluster() string {
	if c := p.cluster.Load(); c != nil {
		return *c
	}
	return ""
}

// versions are the protocol versions of a member: what it speaks, and what it
// understands.
type versions struct{ current, low, high int }

func versionsOf(tags map[string]string) (versions, error) {
	var v versions
	for key, to := range map[string]*int{"vsn": &v.current, "vsn_min": &v.low, "vsn_max": &v.high} {
		n, err := strconv.Atoi(tags[key])
		if err != nil || n < 0 {
			return v, fmt.Errorf("its tags are malformed: %s is %q", key, tags[key])
		}
		*to = n
	}
	return v, nil
}

// speaks says why members with these tags and versions do not understand each
// other, or nil.
func speaks(tags map[string]string, ours versions) error {
	theirs, err := versionsOf(tags)
	if err != nil {
		return err
	}
	if theirs.current < ours.low || theirs.current > ours.high {
		return fmt.Errorf("it speaks protocol version %d, this agent understands %d to %d", theirs.current, ours.low, ours.high)
	}
	if ours.current < theirs.low || ours.current > theirs.high {
		return fmt.Errorf("it understands protocol versions %d to %d, this agent speaks %d", theirs.low, theirs.high, ours.current)
	}
	return nil
}

// candidate is a member that wants in, or is said to be.
type candidate struct {
	name string
	at   netip.AddrPort
	meta meta
}

// admit says why a candidate is refused, or nil. The mutex is held.
func (p *Pool) admit(c candidate, now time.Time) error {
	if c.name == "" || len(c.name) > maxName {
		return fmt.Errorf("its name has %d bytes, 1 to %d are possible", len(c.name), maxName)
	}
	if err := p.fits(c.meta); err != nil {
		return err
	}
	if r := p.table[c.name]; r != nil {
		if err := p.nameConflict(r, c, now); err != nil {
			return err
		}
	} else if len(p.table) >= maxMembers {
		return fmt.Errorf("this pool knows %d members, which is as many as it can", maxMembers)
	}
	for _, r := range p.table {
		if r.name == c.name || !strings.EqualFold(r.name, c.name) {
			continue
		}
		// The catalog would have one node for both.
		if err := p.nameConflict(r, c, now); err != nil {
			return fmt.Errorf("the names %q and %q differ only in capital letters, so they are one: %w", r.name, c.name, err)
		}
	}
	return p.idConflict(c)
}

// nameConflict refuses a name that another node holds: one that answers, or one
// that failed so lately that it may come back.
func (p *Pool) nameConflict(r *record, c candidate, now time.Time) error {
	if r.id == c.meta.tags["id"] || r.addrPort() == c.at || r.status == Left {
		return nil
	}
	if r.status == Failed {
		if age := now.Sub(r.since); age < p.timing.ReclaimTime {
			return fmt.Errorf("the name %q is that of node %s at %s, which failed %s ago and keeps it for %s; node %s at %s wants it. "+
				"To settle it at once, run: muster force-leave %s",
				c.name, r.id, r.addrPort(), age.Round(time.Second), p.timing.ReclaimTime, c.meta.tags["id"], c.at, r.name)
		}
		return nil
	}
	return sharedName(c.name, r.id, r.addrPort(), c.meta.tags["id"], c.at, p.freeName(c.name))
}

// sharedName is the error of two nodes that are alive and have one name. Either
// may be the newcomer.
func sharedName(name, id string, at netip.AddrPort, otherID string, otherAt netip.AddrPort, free string) error {
	return fmt.Errorf("two nodes have the name %q: %s at %s and %s at %s. "+
		"To settle it, start one of them with another: muster agent -node=%s", name, id, at, otherID, otherAt, free)
}

// sharedID is the error of two members that are alive and have one node ID.
func sharedID(id, name string, at netip.AddrPort, other string, otherAt netip.AddrPort) error {
	if at == otherAt {
		// Nobody but the newcomer is there, so it is the same node, renamed while the
		// others have not missed it yet.
		return fmt.Errorf("the node ID %s is that of %q, which was at %s, where %q is now. "+
			"If that is the same node by another name, wait some seconds until the old one counts as failed, and run: muster force-leave %s",
			id, name, at, other, name)
	}
	return fmt.Errorf("two nodes have the ID %s: %q at %s and %q at %s. "+
		"To settle it, start one of them with another: muster agent -node-id=%s", id, name, at, other, otherAt, otherID(id, other))
}

// freeName proposes another name.
func (p *Pool) freeName(name string) string {
	for i := 2; ; i++ {
		other := name + "-" + strconv.Itoa(i)
		if p.table[other] == nil {
			return other
		}
	}
}

// idConflict refuses a node ID that a member of another name holds.
func (p *Pool) idConflict(c candidate) error {
	id := c.meta.tags["id"]
	for _, r := range p.table {
		if r.name == c.name || r.status == Left || r.id != id {
			continue
		}
		if r.status == Failed {
			return fmt.Errorf("the node ID %s is that of %q at %s, which failed; %q at %s wants it too. "+
				"To settle it, run: muster force-leave %s", id, r.name, r.addrPort(), c.name, c.at, r.name)
		}
		return sharedID(id, r.name, r.addrPort(), c.name, c.at)
	}
	return nil
}

// otherID makes a node ID, the same on both sides of a conflict.
func otherID(id, name string) string {
	sum := sha256.Sum256([]byte(id + "\x00" + name))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return formatUUID(sum[:16])
}

// candidateOf reads what memberlist holds of a node.
func candidateOf(n *memberlist.Node) (candidate, error) {
	addr, ok := netip.AddrFromSlice(n.Addr)
	if !ok || n.Port == 0 {
		return candidate{}, fmt.Errorf("its address is malformed: %d bytes and port %d", len(n.Addr), n.Port)
	}
	c := candidate{name: n.Name, at: netip.AddrPortFrom(addr.Unmap(), n.Port)}
	if n.PMin > ProtocolCur || n.PMax < ProtocolCur || n.PCur < ProtocolMin || n.PCur > ProtocolMax ||
		n.DMin > DelegateCur || n.DMax < DelegateCur || n.DCur < DelegateMin || n.DCur > DelegateMax {
		return c, fmt.Errorf("it speaks gossip version %d of %d to %d and %d of %d to %d, this agent %d of %d to %d and %d of %d to %d",
			n.PCur, n.PMin, n.PMax, n.DCur, n.DMin, n.DMax,
			ProtocolCur, ProtocolMin, ProtocolMax, DelegateCur, DelegateMin, DelegateMax)
	}
	var err error
	c.meta, err = decodeMeta(n.Meta)
	return c, err
}

// refuse makes the error of a refusal, and says so in the log.
func (p *Pool) refuse(c candidate, reason error) error {
	if ok, suppressed := p.limit.allow("refused "+c.name, time.Now()); ok {
		args := []any{"member", c.name, "address", c.at, "reason", reason}
		if suppressed > 0 {
			args = append(args, "suppressed", suppressed)
		}
		p.logger.Warn("refused a gossip member", args...)
	}
	return refusal(c, reason)
}

// refusal is the error of a refusal.
func refusal(c candidate, reason error) error {
	return fmt.Errorf("%s%q at %s: %w", refusalMark, c.name, c.at, reason)
}

// errSelf is what this member is told about itself.
var errSelf = errors.New("refused by the pool")

// IsRefusal reports whether a join failed, at one address at least, because the pool
// does not let this member in.
func IsRefusal(err error) bool {
	return err != nil && strings.Contains(err.Error(), errSelf.Error()) // memberlist keeps but the text
}

// claims says why this member cannot join a pool that knows c, or nil, from
// what c has in common with it. Whether a previous life of its own still counts
// there is told by moved.
func (p *Pool) claims(c candidate, gone Status) (err error, moved bool) {
	self := p.selfCandidate()
	sameID := c.meta.tags["id"] == self.meta.tags["id"]
	sameName := c.name == p.name || !sameID && strings.EqualFold(c.name, p.name)
	switch {
	case sameName && c.at == self.at, !sameName && !sameID, gone == Left:
		return nil, false
	case sameName && sameID:
		return nil, true
	case sameName && gone == Failed:
		return nil, false // the others refuse it only for a while, and say so
	case sameName:
		return fmt.Errorf("%w: %w", errSelf, sharedName(p.name, c.meta.tags["id"], c.at, p.id, self.at, p.freeName(p.name))), false
	case gone == Failed:
		return fmt.Errorf("%w: the node ID %s is that of %q at %s, which failed; %q at %s wants it too. "+
			"To settle it, run: muster force-leave %s", errSelf, self.meta.tags["id"], c.name, c.at, p.name, self.at, c.name), false
	default:
		return fmt.Errorf("%w: %w", errSelf, sharedID(self.meta.tags["id"], c.name, c.at, p.name, self.at)), false
	}
}
