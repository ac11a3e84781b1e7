package mvcc

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Sum is a number modulo 2^128. The state hash is the sum of the hashes of all
// rows, so it can be kept as rows come and go, in any order.
type Sum struct {
	Hi, Lo uint64
}

// HashRow returns the first 128 bits of the SHA-256 (FIPS 180-4) of a row's
// canonical encoding.
func HashRow(encoded []byte) Sum {
	h := sha256.Sum256(encoded)
	return Sum{Hi: binary.BigEndian.Uint64(h[0:8]), Lo: binary.BigEndian.Uint64(h[8:16])}
}

// Add returns s + o modulo 2^128.
func (s Sum) Add(o Sum) Sum {
	lo, carry := bits.Add64(s.Lo, o.Lo, 0)
	hi, _ := bits.Add64(s.Hi, o.Hi, carry)
	return Sum{hi, lo}
}

// Sub returns s - o modulo 2^128.
func (s Sum) Sub(o Sum) Sum {
	lo, borrow := bits.Sub64(s.Lo, o.Lo, 0)
	hi, _ := bits.Sub64(s.Hi, o.Hi, borrow)
	return Sum{hi, lo}
}

// String returns s as 32 lower-case hexadecimal digits.
func (s Sum) String() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }
