package state

import "github.com/muster-sd/muster/health"

// This file is the only place where the change of one table moves another. Each
// function is one rule, and its body is the rule in order.

// nodeGone: a node takes its instances and its checks with it.
func (tx *Txn) nodeGone(node string) {
	for _, s := range tx.Catalog().ServicesOn(node) {
		tx.serviceGone(node, s.ID)
	}
	for _, c := range tx.Health().ChecksOn(node) {
		tx.checkGone(node, c.ID)
	}
	tx.Catalog().DeleteNode(node)
}

// serviceGone: an instance takes its checks with it.
func (tx *Txn) serviceGone(node, id string) {
	for _, c := range tx.Health().ChecksOf(node, id) {
		tx.checkGone(node, c.ID)
	}
	tx.Catalog().DeleteService(node, id)
}

// checkGone: whoever the check spoke for has changed to its readers.
func (tx *Txn) checkGone(node, id string) {
	if old := tx.Health().DeleteCheck(node, id); old != nil {
		tx.checkMoves(old)
	}
}

// checkChanged: whoever the check speaks for, or spoke for, has changed to its
// readers.
func (tx *Txn) checkChanged(old, now *health.Check) {
	if old != nil && old.ServiceID != now.ServiceID {
		tx.checkMoves(old)
	}
	tx.checkMoves(now)
}

// checkMoves: a check of an instance moves the index of its service, and a check
// of a node those of all services on it.
func (tx *Txn) checkMoves(c *health.Check) {
	if c.ServiceID == "" {
		tx.Catalog().TouchServicesOn(c.Node)
		return
	}
	if s := tx.Catalog().Service(c.Node, c.ServiceID); s != nil {
		tx.Catalog().TouchService(s.Name)
	}
}
