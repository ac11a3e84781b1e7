package local

import "github.com/muster-sd/muster/catalog"

// bells tell who waits that something changed. There is one for what is waited
// for only, and it is gone once it has rung, so that their number is bounded by
// that of instances and alias checks. They are guarded by the registry's mu.
type bells map[bell]chan struct{}

// bell names what may change.
type bell struct {
	what    byte
	service string // the instance's ID; empty is the node
}

// What may change about an instance or the node.
const (
	definitionOf byte = iota // the row of the instance
	healthOf                 // its checks, or that it is there
)

// on returns a channel that is closed at the next change.
func (b bells) on(of bell) <-chan struct{} {
	if b[of] == nil {
		b[of] = make(chan struct{})
	}
	return b[of]
}

// ring tells everybody who waits.
func (b bells) ring(of bell) {
	if ch := b[of]; ch != nil {
		close(ch)
		delete(b, of)
	}
}

// WatchService returns an instance and a channel that is closed when it is no
// longer what was returned. Both are nil if it is not registered here. Nobody may
// write to the instance.
func (r *Registry) WatchService(id string) (*catalog.Service, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[id]
	if s == nil {
		return nil, nil
	}
	return s.row, r.bells.on(bell{definitionOf, id})
}
