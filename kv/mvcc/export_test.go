package mvcc

// Fired reports, without sleeping, whether anything under watch has changed.
func (w *Watch) Fired() bool {
	for _, ch := range w.chans {
		select {
		case <-ch:
			return true
		default:
		}
	}
	return false
}
