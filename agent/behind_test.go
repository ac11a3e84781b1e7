package agent

import (
	"bytes"
	"errors"
	"io"
)

// HoldLog keeps this server from applying its log, as a long queue of entries
// would, until release is called.
func (a *Agent) HoldLog() (release func(), err error) {
	var offer bytes.Buffer
	if err := a.machine.Offer(&offer); err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.machine.AdoptHeld(reader) // it is never given the whole offer
		_ = reader.Close()
	}()
	const header = 21 // what is behind it is read while the log is held
	for _, part := range [][]byte{offer.Next(header), offer.Next(1)} {
		if _, err := writer.Write(part); err != nil {
			return nil, err
		}
	}
	return func() {
		_ = writer.CloseWithError(errors.New("released"))
		<-done
	}, nil
}
