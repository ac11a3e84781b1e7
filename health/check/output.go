package check

import (
	"fmt"
	"io"
)

// head returns the first limit bytes of text, with a remark on what was left
// out.
func head(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return fmt.Sprintf("%s ... (captured %d of %d bytes)", text[:limit], limit, len(text))
}

// readChunk is how many bytes are read at once in search of a tail.
const readChunk = 4096

// readTail reads r until it ends, fails or has given most bytes, and returns
// the last limit bytes of what it gave.
func readTail(r io.Reader, limit int, most int64) []byte {
	r = io.LimitReader(r, most)
	var kept []byte
	chunk := make([]byte, readChunk)
	for {
		n, err := r.Read(chunk)
		kept = append(kept, chunk[:n]...)
		if len(kept) > 2*limit {
			kept = kept[:copy(kept, kept[len(kept)-limit:])]
		}
		if err != nil {
			return kept[max(0, len(kept)-limit):]
		}
	}
}
