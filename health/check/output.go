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

// tail keeps the last limit bytes of what is written to it.
type tail struct {
	limit int
	kept  []byte
	total int64
}

// Write never fails, so that a command may say more than is kept.
func (t *tail) Write(p []byte) (int, error) {
	t.total += int64(len(p))
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if len(t.kept) > 2*t.limit {
		t.kept = t.kept[:copy(t.kept, t.kept[len(t.kept)-t.limit:])]
	}
	return len(p), nil
}

// text is what was kept, after a remark if that is not all.
func (t *tail) text() string {
	kept := t.kept[max(0, len(t.kept)-t.limit):]
	if t.total <= int64(len(kept)) {
		return string(kept)
	}
	return fmt.Sprintf("Captured %d of %d bytes\n...\n%s", len(kept), t.total, kept)
}
