package state

import "github.com/muster-sd/muster/health"

func appendEntries(b []byte, entries []health.Entry) []byte {
	body, err := encodeBody(b, entries)
	if err != nil {
		panic(err)
	}
	return body
}

func readEntries(b []byte) ([]health.Entry, error) {
	var v []health.Entry
	err := decodeBody(b, &v)
	return v, err
}
