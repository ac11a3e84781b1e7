package state

import (
	"fmt"
	"strings"

	"github.com/muster-sd/muster/catalog"
	"github.com/muster-sd/muster/health"
	"github.com/muster-sd/muster/kv/mvcc"
)

// register writes a node, then an instance, then checks, all or nothing.
func (tx *Txn) register(c *health.Register) *mvcc.Error {
	if err := tx.registerNode(c); err != nil {
		return err
	}
	node := tx.Catalog().Node(c.Node.Name)
	if c.Service != nil {
		s := *c.Service
		s.Node = node.Name
		tx.Catalog().SetService(s)
	}
	for _, check := range c.Checks {
		check.Node = node.Name
		if err := tx.registerCheck(check); err != nil {
			return err
		}
	}
	return nil
}

// registerNode settles who the node is before it is written: a known ID under a
// new name renames its node, and a known name with another ID is taken over only
// from a node that cannot be alive.
func (tx *Txn) registerNode(c *health.Register) *mvcc.Error {
	n := c.Node
	byName, byID := tx.Catalog().Node(n.Name), tx.Catalog().NodeByID(n.ID)
	if c.SkipNodeUpdate && byName != nil {
		return nil
	}
	if byName != nil && n.ID != "" && byName.ID != "" && !strings.EqualFold(byName.ID, n.ID) && tx.alive(byName.Name) {
		return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf(
			"failed inserting node: Error while renaming Node ID: %q (%s): Node name %s is reserved by node %s with name %s (%s)",
			n.ID, n.Address, n.Name, byName.ID, byName.Name, byName.Address)}
	}
	if byID != nil && !strings.EqualFold(byID.Name, n.Name) {
		tx.nodeGone(byID.Name)
	}
	tx.Catalog().SetNode(n)
	return nil
}

// alive reports whether gossip holds a node for alive. One that gossip never
// heard of is not.
func (tx *Txn) alive(node string) bool {
	c := tx.Health().Check(node, health.SerfHealth)
	return c != nil && c.Status != health.Critical
}

// registerCheck writes a check with the name and tags of its instance.
func (tx *Txn) registerCheck(c health.Check) *mvcc.Error {
	c.ServiceName = ""
	c.ServiceTags = []string{}
	if c.ServiceID != "" {
		s := tx.Catalog().Service(c.Node, c.ServiceID)
		if s == nil {
			return &mvcc.Error{Code: mvcc.Invalid, Text: fmt.Sprintf("Unknown service ID '%s' for check ID '%s'", c.ServiceID, c.ID)}
		}
		c.ServiceName, c.ServiceTags = s.Name, s.Tags
	}
	if old, now := tx.Health().SetCheck(c); now != nil {
		tx.checkChanged(old, now)
	}
	return nil
}

// deregister removes an instance, a check or a whole node.
func (tx *Txn) deregister(c *catalog.Deregister) {
	switch {
	case c.ServiceID != "":
		tx.serviceGone(c.Node, c.ServiceID)
	case c.CheckID != "":
		tx.checkGone(c.Node, c.CheckID)
	default:
		tx.nodeGone(c.Node)
	}
}
