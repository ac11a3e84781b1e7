package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"os"
)

// The layout of a bolt file, version 2. Numbers are in the machine's order.
//
//	page      [id 8][flags 2][count 2][overflow 4] …, with overflow more pages
//	meta      [magic 4][version 4][page size 4][flags 4][root 8][sequence 8][freelist 8][pages 8][transaction 8][FNV-1a 8]
//	branch    count × [position 4][key length 4][page 8], then keys
//	leaf      count × [flags 4][position 4][key length 4][value length 4], then keys and values
//	bucket    [root 8][sequence 8], as the value in a leaf; with root 0 its only page follows
const (
	pageHeader  = 16
	pageElement = 16
	metaBytes   = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10

	bucketElement = 0x01
	bucketHeader  = 16

	noFreelist = ^uint64(0)

	// maxTreeDepth is more than any tree that fits a disk.
	maxTreeDepth = 32

	// The buckets in which raft-boltdb keeps the log and the stable store.
	logBucket  = "logs"
	confBucket = "conf"
	// logKeyBytes is the length of a key in the log: an index.
	logKeyBytes = 8
)

// pageChecker reads every page of a bolt file that is in use, without bolt.
type pageChecker struct {
	file     *os.File
	size     int64
	pageSize int
	pages    uint64 // how many there are, free ones too
	seen     []bool // by page
	buckets  map[string]bool
	// entry, if it is not nil, is shown each entry of the log, in order. The
	// bytes are good until it returns.
	entry func(key, value []byte) error
	// kept is memory for pages by their depth: that of a page is used again for
	// the next one as deep, when all below it was checked.
	kept [maxTreeDepth + 1][]byte
}

// checkPages checks that the file at path is whole: every page is there, is
// what it should be, and is used once; keys are in order. If entry is not nil,
// it is shown the entries of the log, and its error ends the check.
func checkPages(path string, pageSize int, entry func(key, value []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	c := &pageChecker{file: file, size: info.Size(), pageSize: pageSize, buckets: make(map[string]bool), entry: entry}
	if pageSize < pageHeader+metaBytes {
		return fmt.Errorf("its pages of %d bytes are too small", pageSize)
	}
	meta, err := c.meta()
	if err != nil {
		return err
	}
	c.pages = meta.pages
	// bolt makes room for all pages before it writes any, so a file that is
	// shorter was cut off, even where only free pages are missing.
	if c.size/int64(pageSize) < int64(min(c.pages, math.MaxInt64)) {
		return fmt.Errorf("it is cut off: it has %d bytes, and its %d pages need %d each", c.size, c.pages, pageSize)
	}
	c.seen = make([]bool, c.pages) // no more than the file has
	if meta.freelist != noFreelist {
		if err := c.freelist(meta.freelist); err != nil {
			return err
		}
	}
	if err := c.tree(meta.root, "", 0); err != nil {
		return err
	}
	for _, bucket := range []string{logBucket, confBucket} {
		if !c.buckets[bucket] {
			return fmt.Errorf("it has no bucket %q: it is not a Raft log", bucket)
		}
	}
	return nil
}

// meta is what the checker needs of a meta page.
type meta struct {
	root, freelist, pages, transaction uint64
}

// meta returns the newer of the two meta pages that are whole: bolt writes them
// in turn, so a crash leaves one.
func (c *pageChecker) meta() (meta, error) {
	var newest meta
	found := false
	for i := range int64(2) {
		data := make([]byte, metaBytes)
		if _, err := c.file.ReadAt(data, i*int64(c.pageSize)+pageHeader); err != nil {
			continue
		}
		if m, ok := parseMetaPage(data); ok && (!found || m.transaction > newest.transaction) {
			newest, found = m, true
		}
	}
	if !found {
		return meta{}, errors.New("neither of its two heads is whole")
	}
	return newest, nil
}

// parseMetaPage reads a meta page, if its checksum is right.
func parseMetaPage(data []byte) (meta, bool) {
	sum := fnv.New64a()
	sum.Write(data[:56])
	number := binary.NativeEndian
	whole := number.Uint32(data) == metaMagic && number.Uint32(data[4:]) == metaVersion && number.Uint64(data[56:]) == sum.Sum64()
	return meta{
		root: number.Uint64(data[16:]), freelist: number.Uint64(data[32:]),
		pages: number.Uint64(data[40:]), transaction: number.Uint64(data[48:]),
	}, whole
}

// page reads a page with what overflows from it, and checks its head. The data
// is good until the next page of that depth.
func (c *pageChecker) page(id uint64, depth int) (flags uint16, count int, data []byte, err error) {
	if id < 2 || id >= c.pages {
		return 0, 0, nil, fmt.Errorf("page %d is out of range, there are %d", id, c.pages)
	}
	if c.kept[depth] == nil {
		c.kept[depth] = make([]byte, c.pageSize)
	}
	data = c.kept[depth]
	if err := c.read(data, id, 0); err != nil {
		return 0, 0, nil, err
	}
	number := binary.NativeEndian
	self, overflow := number.Uint64(data), uint64(number.Uint32(data[12:]))
	flags, count = number.Uint16(data[8:]), int(number.Uint16(data[10:]))
	if self != id {
		return 0, 0, nil, fmt.Errorf("page %d says that it is page %d", id, self)
	}
	if id+overflow >= c.pages || (id+overflow+1)*uint64(c.pageSize) > uint64(c.size) {
		return 0, 0, nil, fmt.Errorf("page %d is cut off: it has %d more pages, the file has %d bytes", id, overflow, c.size)
	}
	for used := id; used <= id+overflow; used++ {
		if c.seen[used] {
			return 0, 0, nil, fmt.Errorf("page %d is used twice", used)
		}
		c.seen[used] = true
	}
	if overflow == 0 {
		return flags, count, data, nil
	}
	whole := make([]byte, (overflow+1)*uint64(c.pageSize))
	copy(whole, data)
	return flags, count, whole, c.read(whole[c.pageSize:], id, int64(c.pageSize))
}

func (c *pageChecker) read(into []byte, id uint64, offset int64) error {
	if _, err := c.file.ReadAt(into, int64(id)*int64(c.pageSize)+offset); err != nil {
		return fmt.Errorf("page %d cannot be read, the file has %d bytes: %w", id, c.size, err)
	}
	return nil
}

// freelist checks the page that lists the free ones, if there is one.
func (c *pageChecker) freelist(id uint64) error {
	flags, count, data, err := c.page(id, 0)
	if err != nil {
		return err
	}
	size := uint64(count)
	begin := pageHeader
	if count == 0xFFFF { // too many for the head: the first number says how many
		size = binary.NativeEndian.Uint64(data[pageHeader:])
		begin += 8
	}
	if flags != freePage || size > uint64(len(data)-begin)/8 {
		return fmt.Errorf("page %d is not a list of %d free pages", id, size)
	}
	return nil
}

// tree checks the page with the given ID and those below it, as part of a
// bucket.
func (c *pageChecker) tree(id uint64, bucket string, depth int) error {
	if depth > maxTreeDepth {
		return fmt.Errorf("page %d lies %d pages deep", id, depth)
	}
	flags, count, data, err := c.page(id, depth)
	if err != nil {
		return err
	}
	if flags == leafPage {
		return c.leaf(data, count, bucket, depth, fmt.Sprintf("page %d", id))
	}
	if flags != branchPage || count == 0 {
		return fmt.Errorf("page %d is not a part of a tree: its kind is %#x, with %d elements", id, flags, count)
	}
	var last []byte
	for i := range count {
		element, ok := slice(data, pageHeader+i*pageElement, pageElement)
		if !ok {
			return fmt.Errorf("page %d has no room for %d elements", id, count)
		}
		number := binary.NativeEndian
		key, ok := slice(data, pageHeader+i*pageElement+int(number.Uint32(element)), int(number.Uint32(element[4:])))
		if !ok || i > 0 && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("page %d has a wrong key %d", id, i)
		}
		last = key
		if err := c.tree(number.Uint64(element[8:]), bucket, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks the elements of a leaf page, which may be one inside another.
func (c *pageChecker) leaf(data []byte, count int, bucket string, depth int, where string) error {
	var last []byte
	for i := range count {
		element, ok := slice(data, pageHeader+i*pageElement, pageElement)
		if !ok {
			return fmt.Errorf("%s has no room for %d elements", where, count)
		}
		number := binary.NativeEndian
		begin, keyLength := pageHeader+i*pageElement+int(number.Uint32(element[4:])), int(number.Uint32(element[8:]))
		key, keyOK := slice(data, begin, keyLength)
		value, valueOK := slice(data, begin+keyLength, int(number.Uint32(element[12:])))
		if !keyOK || !valueOK || i > 0 && bytes.Compare(last, key) >= 0 || bucket == logBucket && keyLength != logKeyBytes {
			return fmt.Errorf("%s has a wrong element %d", where, i)
		}
		last = key
		if number.Uint32(element)&bucketElement == 0 {
			if bucket == logBucket && c.entry != nil {
				if err := c.entry(key, value); err != nil {
					return err
				}
			}
			continue
		}
		if bucket != "" {
			return fmt.Errorf("%s has a bucket inside the bucket %q", where, bucket)
		}
		if err := c.bucket(string(key), value, depth, where); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the bucket that a leaf holds.
func (c *pageChecker) bucket(name string, value []byte, depth int, where string) error {
	if len(value) < bucketHeader || name == "" {
		return fmt.Errorf("%s has a wrong bucket %q", where, name)
	}
	c.buckets[name] = true
	number := binary.NativeEndian
	if root := number.Uint64(value); root != 0 {
		return c.tree(root, name, depth+1)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || number.Uint16(inline[8:]) != leafPage {
		return fmt.Errorf("%s has a wrong bucket %q", where, name)
	}
	return c.leaf(inline, int(number.Uint16(inline[10:])), name, depth+1, fmt.Sprintf("the bucket %q in %s", name, where))
}

// slice returns length bytes of data, if they are there.
func slice(data []byte, begin, length int) ([]byte, bool) {
	if begin < 0 || length < 0 || begin > len(data) || length > len(data)-begin {
		return nil, false
	}
	return data[begin : begin+length], true
}
