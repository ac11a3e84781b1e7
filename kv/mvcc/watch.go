package mvcc

import (
	"context"
	"reflect"
	"time"
)

// Watch collects what an answer was read from, so that a reader can sleep until
// any of it changes. The zero value is empty and ready; a nil *Watch collects
// nothing, which makes reads that do not wait free of its cost.
type Watch struct {
	chans []<-chan struct{}
}

// Add puts ch under watch. It does nothing on a nil Watch or a nil channel.
func (w *Watch) Add(ch <-chan struct{}) {
	if w != nil && ch != nil {
		w.chans = append(w.chans, ch)
	}
}

// Len is the number of channels under watch.
func (w *Watch) Len() int {
	if w == nil {
		return 0
	}
	return len(w.chans)
}

// Reset empties w and keeps its memory.
func (w *Watch) Reset() {
	if w != nil {
		w.chans = w.chans[:0]
	}
}

// Wait sleeps until something under watch changes and reports true, or until
// ctx or timer ends it and reports false. A nil or empty Watch sleeps until ctx
// or timer ends it.
func (w *Watch) Wait(ctx context.Context, timer <-chan time.Time) bool {
	switch w.Len() {
	case 0:
		select {
		case <-ctx.Done():
		case <-timer:
		}
		return false
	case 1:
		select {
		case <-w.chans[0]:
			return true
		case <-ctx.Done():
		case <-timer:
		}
		return false
	case 2:
		select {
		case <-w.chans[0]:
			return true
		case <-w.chans[1]:
			return true
		case <-ctx.Done():
		case <-timer:
		}
		return false
	}
	cases := make([]reflect.SelectCase, 0, len(w.chans)+2)
	cases = append(cases,
		reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
		reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timer)})
	for _, ch := range w.chans {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch)})
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen >= 2
}
