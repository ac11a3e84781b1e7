package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"github.com/muster-sd/muster/kv/mvcc"
)

// The form of a snapshot, all numbers big-endian:
//
//	magic 8, form 1, cluster ID 16, index 8, at 8, CRC32C of these 4
//	blocks:  length 4 (of the rows), rows, CRC32C of the rows 4
//	         a row is [table 1][length 4][canonical msgpack]
//	end:     length 0 (4 bytes)
//	         number of tables 1, for each: table 1, rows 8
//	         state hash 16
//	         SHA-256 of everything before it 32
const (
	snapshotMagic      = "MUSTERSS"
	snapshotForm  byte = 1
	headerSize         = len(snapshotMagic) + 1 + 16 + 8 + 8
	rowHead            = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tableOrder is the order of tables in a snapshot.
var tableOrder = [...]byte{
	tableFacts,
	tableEntries, tableTombstones, tableKVMarks,
	tableNodes, tableServices, tableCatalogMarks,
	tableChecks, tableHealthMarks,
}

// WriteSnapshot writes all rows of v to w.
func WriteSnapshot(w io.Writer, v *View) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), blockSize)

	head := make([]byte, 0, headerSize+4)
	head = append(head, snapshotMagic...)
	head = append(head, snapshotForm)
	cluster := v.Cluster()
	head = append(head, cluster[:]...)
	head = binary.BigEndian.AppendUint64(head, v.Index)
	head = binary.BigEndian.AppendUint64(head, uint64(v.At))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	if _, err := out.Write(head); err != nil {
		return err
	}
	counts, err := writeRows(out, v)
	if err != nil {
		return err
	}
	end := []byte{0, 0, 0, 0, byte(len(tableOrder))}
	for _, table := range tableOrder {
		end = append(end, table)
		end = binary.BigEndian.AppendUint64(end, counts[table])
	}
	end = binary.BigEndian.AppendUint64(end, v.sum.Hi)
	end = binary.BigEndian.AppendUint64(end, v.sum.Lo)
	if _, err := out.Write(end); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// writeRows writes the rows of v in blocks and returns how many each table has.
func writeRows(out io.Writer, v *View) (map[byte]uint64, error) {
	counts := map[byte]uint64{}
	rows := newRowEncoder()
	var block, row []byte
	var err error
	flush := func() bool {
		framed := binary.BigEndian.AppendUint32(nil, uint32(len(block)))
		if _, err = out.Write(framed); err != nil {
			return false
		}
		block = binary.BigEndian.AppendUint32(block, crc32.Checksum(block, castagnoli))
		_, err = out.Write(block)
		block = block[:0]
		return err == nil
	}
	v.Rows(func(r any) bool {
		row = rows.append(row[:0], r)
		counts[row[0]]++
		block = append(block, row[0])
		block = binary.BigEndian.AppendUint32(block, uint32(len(row)-1))
		block = append(block, row[1:]...)
		return len(block) < blockSize || flush()
	})
	if err == nil && len(block) > 0 {
		flush()
	}
	return counts, err
}

// ReadSnapshot reads a snapshot to its last byte and returns the view in it. It
// takes nothing on trust: each block's checksum, the number of rows, the state
// hash and the SHA-256 of the whole must hold. Errors say which did not.
func ReadSnapshot(r io.Reader) (*View, error) {
	in := &snapshotReader{sum: sha256.New()}
	in.r = bufio.NewReaderSize(r, blockSize)

	base := newView()
	cluster, err := in.header(base)
	if err != nil {
		return nil, err
	}
	tx := base.begin(newRowEncoder(), base.Index, base.At)
	body := newDecoder()
	counts := map[byte]uint64{}
	for {
		block, err := in.block()
		if err != nil {
			return nil, err
		}
		if block == nil {
			break
		}
		if err := loadBlock(tx, body, block, counts); err != nil {
			return nil, err
		}
	}
	view := tx.commit()
	if err := in.end(view, counts); err != nil {
		return nil, err
	}
	if view.Cluster() != cluster {
		return nil, errors.New("damaged snapshot: the cluster ID in its header is not the one in its rows")
	}
	if f, ok := view.facts.Get(factAutopilot, nil); ok {
		if _, err := readAutopilot(f); err != nil {
			return nil, fmt.Errorf("damaged snapshot: the configuration of autopilot: %w", err)
		}
	}
	return view, nil
}

// snapshotReader reads a snapshot part by part and hashes what it reads.
type snapshotReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

func (s *snapshotReader) read(n int, what string) ([]byte, error) {
	// Grown as the bytes come in, so that a damaged length costs no memory.
	var buf bytes.Buffer
	got, err := io.CopyN(&buf, s.r, int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read the snapshot's %s: %w", what, err)
	}
	if got < int64(n) {
		return nil, fmt.Errorf("damaged snapshot: it ends in its %s, after %d of %d bytes", what, got, n)
	}
	s.sum.Write(buf.Bytes())
	return buf.Bytes(), nil
}

func (s *snapshotReader) header(v *View) (ClusterID, error) {
	var cluster ClusterID
	h, err := s.read(headerSize+4, "header")
	if err != nil {
		return cluster, err
	}
	if string(h[:len(snapshotMagic)]) != snapshotMagic {
		return cluster, errors.New("this is not a snapshot of Muster's state: it does not begin with " + snapshotMagic)
	}
	rest := h[len(snapshotMagic):]
	if rest[0] != snapshotForm {
		return cluster, fmt.Errorf("a snapshot of form %d needs a newer Muster: this one knows form %d", rest[0], snapshotForm)
	}
	if crc32.Checksum(h[:headerSize], castagnoli) != binary.BigEndian.Uint32(h[headerSize:]) {
		return cluster, errors.New("damaged snapshot: the checksum of its header does not hold")
	}
	copy(cluster[:], rest[1:17])
	v.Index = binary.BigEndian.Uint64(rest[17:])
	at := binary.BigEndian.Uint64(rest[25:])
	if at > math.MaxInt64 {
		return cluster, fmt.Errorf("damaged snapshot: its time %d is out of range", at)
	}
	v.At = int64(at)
	return cluster, nil
}

// block returns the rows of the next block, or nil at the end.
func (s *snapshotReader) block() ([]byte, error) {
	l, err := s.read(4, "block length")
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(l)
	if n == 0 {
		return nil, nil
	}
	if n > blockSize+maxRow {
		return nil, fmt.Errorf("damaged snapshot: a block of %d bytes exceeds the limit of %d", n, blockSize+maxRow)
	}
	b, err := s.read(int(n)+4, "block")
	if err != nil {
		return nil, err
	}
	rows, want := b[:n], binary.BigEndian.Uint32(b[n:])
	if crc32.Checksum(rows, castagnoli) != want {
		return nil, errors.New("damaged snapshot: the checksum of a block does not hold")
	}
	return rows, nil
}

func loadBlock(tx *Txn, body *decoder, block []byte, counts map[byte]uint64) error {
	for len(block) > 0 {
		if len(block) < rowHead {
			return errors.New("damaged snapshot: a row's head is cut off")
		}
		table, n := block[0], binary.BigEndian.Uint32(block[1:])
		block = block[rowHead:]
		if uint64(n) > uint64(len(block)) {
			return fmt.Errorf("damaged snapshot: a row of %d bytes is cut off after %d", n, len(block))
		}
		row := newRow(table)
		if row == nil {
			return fmt.Errorf("rows of table %d need a newer Muster: this one knows protocol version %d", table, ProtocolVersion)
		}
		if err := body.decode(block[:n], row); err != nil {
			return fmt.Errorf("damaged snapshot: a row of table %d: %w", table, err)
		}
		tx.load(nil, row)
		counts[table]++
		block = block[n:]
	}
	return nil
}

// end checks what stands behind the rows against the view that they made.
func (s *snapshotReader) end(v *View, counts map[byte]uint64) error {
	n, err := s.read(1, "number of tables")
	if err != nil {
		return err
	}
	for range n[0] {
		c, err := s.read(9, "number of rows")
		if err != nil {
			return err
		}
		if want := binary.BigEndian.Uint64(c[1:]); counts[c[0]] != want {
			return fmt.Errorf("damaged snapshot: table %d has %d rows instead of %d", c[0], counts[c[0]], want)
		}
	}
	h, err := s.read(16, "state hash")
	if err != nil {
		return err
	}
	if want := (mvcc.Sum{Hi: binary.BigEndian.Uint64(h), Lo: binary.BigEndian.Uint64(h[8:])}); v.sum != want {
		return fmt.Errorf("damaged snapshot: its rows have the state hash %s instead of %s", v.sum, want)
	}
	whole := s.sum.Sum(nil)
	got, err := s.read(len(whole), "SHA-256")
	if err != nil {
		return err
	}
	if !bytes.Equal(whole, got) {
		return errors.New("damaged snapshot: its SHA-256 does not hold")
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("damaged snapshot: something stands behind its end")
	}
	return nil
}
