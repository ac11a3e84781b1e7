package state

import (
	"archive/tar"
	"bufio"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ArchiveMeta is what meta.json of an archive says.
type ArchiveMeta struct {
	// Version is that of the archive's form.
	Version int
	// ID names the snapshot.
	ID string
	// Index and Term are those of the last log entry in it.
	Index, Term uint64
	// Configuration lists who took part in Raft, as of ConfigurationIndex.
	Configuration      ArchiveServers
	ConfigurationIndex uint64
	// Size is that of state.bin in bytes.
	Size int64

	// What Muster adds.

	// Muster is the version of the program that wrote the archive.
	Muster string
	// Protocol is the newest version of rows that may be in it.
	Protocol int
	// Datacenter is where it was taken.
	Datacenter string
	// Cluster is the ID of the cluster, in hexadecimal digits.
	Cluster string
	// StateHash is that of the state, in hexadecimal digits.
	StateHash string
	// At is the state's time.
	At time.Time
}

// ArchiveServers lists servers.
type ArchiveServers struct {
	Servers []ArchiveServer
}

// ArchiveServer is a server that took part in Raft. Suffrage is 0 for a voter
// and 1 for one that does not vote.
type ArchiveServer struct {
	Suffrage int
	ID       string
	Address  string
}

// The files of an archive, in their order.
const (
	archiveMeta  = "meta.json"
	archiveState = "state.bin"
	archiveSums  = "SHA256SUMS"
)

// archiveVersion is the form of an archive.
const archiveVersion = 1

// WriteArchive writes a snapshot for people: a gzipped tar of meta.json,
// state.bin and SHA256SUMS. Of meta the caller gives Index (zero: that of v),
// Term, the configuration, Muster and Datacenter; the rest is filled in. It
// returns the meta that was written. One view and one meta give the same bytes
// each time.
func WriteArchive(w io.Writer, v *View, meta ArchiveMeta) (ArchiveMeta, error) {
	// A tar names the size of a file before it: the first round only counts.
	sum := sha256.New()
	size := &counter{}
	if err := WriteSnapshot(io.MultiWriter(sum, size), v); err != nil {
		return meta, err
	}
	if size.n > MaxArchiveState {
		return meta, fmt.Errorf("a state of %d bytes exceeds the limit of an archive, %d bytes", size.n, MaxArchiveState)
	}
	if meta.Index == 0 {
		meta.Index = v.Index
	}
	if meta.Index < v.Index {
		return meta, fmt.Errorf("an archive of index %d cannot hold a state of index %d", meta.Index, v.Index)
	}
	cluster := v.Cluster()
	meta.Version = archiveVersion
	meta.ID = fmt.Sprintf("%d-%d-%d", meta.Term, meta.Index, v.At)
	meta.Size = size.n
	meta.Protocol = ProtocolVersion
	meta.Cluster = hex.EncodeToString(cluster[:])
	meta.StateHash = v.sum.String()
	meta.At = time.UnixMilli(v.At).UTC()
	head, err := json.MarshalIndent(&meta, "", "  ")
	if err != nil {
		return meta, err
	}
	head = append(head, '\n')

	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	sums := sumLine(sha256.Sum256(head), archiveMeta) + sumLine([sha256.Size]byte(sum.Sum(nil)), archiveState)
	err = errors.Join(
		addFile(out, archiveMeta, int64(len(head)), meta.At, func(w io.Writer) error { _, err := w.Write(head); return err }),
		addFile(out, archiveState, size.n, meta.At, func(w io.Writer) error { return WriteSnapshot(w, v) }),
		addFile(out, archiveSums, int64(len(sums)), meta.At, func(w io.Writer) error { _, err := io.WriteString(w, sums); return err }),
	)
	if err != nil {
		return meta, err
	}
	return meta, errors.Join(out.Close(), zip.Close())
}

// counter counts the bytes that are written to it.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// sumLine is a line as sha256sum(1) writes it.
func sumLine(sum [sha256.Size]byte, name string) string { return fmt.Sprintf("%x  %s\n", sum, name) }

func addFile(out *tar.Writer, name string, size int64, at time.Time, write func(io.Writer) error) error {
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: at.Truncate(time.Second), Format: tar.FormatUSTAR}
	if err := out.WriteHeader(head); err != nil {
		return err
	}
	return write(out)
}

// VerifyArchive reads an archive to its last byte, and takes nothing in it on
// trust: its files, their order and sizes, their checksums and all that
// [ReadSnapshot] looks at must hold. Its state is written to state, unless that
// is nil, and returned as a view. Until it has returned without an error nothing
// may be done with either.
func VerifyArchive(r io.Reader, state io.Writer) (ArchiveMeta, *View, error) {
	size := &counter{}
	packed := bufio.NewReaderSize(io.TeeReader(r, size), blockSize)
	zip, err := unzip(packed)
	if err != nil {
		return ArchiveMeta{}, nil, (&archiveReader{}).explain(err, size.n)
	}
	zip.Multistream(false)
	a := &archiveReader{in: &inflater{r: zip}}
	a.tar = tar.NewReader(a.in)
	meta, view, err := a.read(state)
	if a.in.err != nil {
		err = a.explain(a.in.err, size.n) // it says more than what followed from it
	}
	if err != nil {
		return ArchiveMeta{}, nil, err
	}
	if _, err := packed.ReadByte(); !errors.Is(err, io.EOF) {
		return ArchiveMeta{}, nil, damaged("something stands behind its end")
	}
	return meta, view, nil
}

// unzip reads the head of a gzip. One that is too short for that is told from what
// is none.
func unzip(r *bufio.Reader) (*gzip.Reader, error) {
	const magic = "\x1f\x8b"
	if begin, _ := r.Peek(len(magic)); !strings.HasPrefix(magic, string(begin)) {
		return nil, gzip.ErrHeader
	}
	return gzip.NewReader(r)
}

// ArchiveFault says why an archive cannot be used.
type ArchiveFault struct {
	// What is wrong with it, in words that go on from "the archive".
	What string

	text  string
	cause error
}

// Error returns the text that clients are told.
func (f *ArchiveFault) Error() string { return f.text }

// Unwrap returns what it follows from, or nil.
func (f *ArchiveFault) Unwrap() error { return f.cause }

func damaged(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &ArchiveFault{What: "is damaged: " + err.Error(), text: "damaged archive: " + err.Error(), cause: errors.Unwrap(err)}
}

func noArchive(format string, args ...any) error {
	text := fmt.Sprintf("not an archive of Muster's state: "+format, args...)
	return &ArchiveFault{What: "is " + text, text: "this is " + text}
}

// explain says in plain words what an error of the decompression comes to, in an
// archive of which so many bytes were read.
func (a *archiveReader) explain(err error, size int64) error {
	var corrupt flate.CorruptInputError
	f := &ArchiveFault{cause: err}
	switch {
	case size == 0 && errors.Is(err, io.EOF):
		f.What = "is empty: it has 0 bytes"
	case errors.Is(err, gzip.ErrHeader) && a.in == nil:
		f.What = "is not an archive of Muster's state: it does not begin as a gzip does"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		f.What = fmt.Sprintf("is cut short: its %d bytes %s", size, a.reached())
	case errors.As(err, &corrupt):
		f.What = fmt.Sprintf("is damaged: what is compressed in it makes no sense at byte %d", int64(corrupt))
	case errors.Is(err, gzip.ErrChecksum):
		f.What = "is damaged: the checksum of what is compressed in it does not hold"
	default: // it could not be read
		return fmt.Errorf("%s: %w", textDecompress, err)
	}
	f.text = fmt.Sprintf("%s: %v: it %s", textDecompress, err, f.What)
	return f
}

// reached says how far the bytes of an archive go.
func (a *archiveReader) reached() string {
	switch {
	case a.file == "":
		return "end before its " + archiveMeta
	case a.got.n < a.size:
		return fmt.Sprintf("hold %d of the %d bytes of its %s", a.got.n, a.size, a.file)
	default:
		return "end behind its " + a.file + ", without the end of the gzip"
	}
}

// PeekArchive reads what an archive says of itself, and checks nothing of it.
func PeekArchive(r io.Reader) (ArchiveMeta, error) {
	zip, err := unzip(bufio.NewReaderSize(r, blockSize))
	if err != nil {
		return ArchiveMeta{}, fmt.Errorf("%s: %w", textDecompress, err)
	}
	a := &archiveReader{in: &inflater{r: zip}}
	a.tar = tar.NewReader(a.in)
	head, err := a.small(archiveMeta, maxArchiveMeta)
	if err != nil {
		return ArchiveMeta{}, err
	}
	var meta ArchiveMeta
	if err := json.Unmarshal(head, &meta); err != nil {
		return ArchiveMeta{}, damaged("cannot read its %s: %w", archiveMeta, err)
	}
	return meta, nil
}

// textDamagedState begins the errors of a state that does not hold together.
const textDamagedState = "damaged snapshot: "

// textDecompress begins the error of what is no gzip, or is cut off or damaged.
// Clients know the text.
const textDecompress = "failed to decompress snapshot"

// inflater keeps the first error of the decompression.
type inflater struct {
	r   io.Reader
	err error
}

func (i *inflater) Read(b []byte) (int, error) {
	n, err := i.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		i.err = err
	}
	return n, err
}

// archiveReader reads an archive file by file.
type archiveReader struct {
	in  *inflater
	tar *tar.Reader

	file string  // that was reached
	size int64   // of it
	got  counter // what was read of it
}

// Read reads of the file that was reached.
func (a *archiveReader) Read(b []byte) (int, error) {
	n, err := a.tar.Read(b)
	a.got.n += int64(n)
	return n, err
}

func (a *archiveReader) read(state io.Writer) (ArchiveMeta, *View, error) {
	var meta ArchiveMeta
	head, err := a.small(archiveMeta, maxArchiveMeta)
	if err != nil {
		return meta, nil, err
	}
	if err := json.Unmarshal(head, &meta); err != nil {
		return meta, nil, damaged("cannot read its %s: %w", archiveMeta, err)
	}
	if meta.Version != archiveVersion {
		return meta, nil, fmt.Errorf("an archive of version %d cannot be read: this program knows version %d", meta.Version, archiveVersion)
	}
	view, sum, err := a.state(meta, state)
	if err != nil {
		return meta, nil, err
	}
	sums, err := a.small(archiveSums, maxArchiveSums)
	if err != nil {
		return meta, nil, err
	}
	if want := sumLine(sha256.Sum256(head), archiveMeta) + sumLine(sum, archiveState); string(sums) != want {
		return meta, nil, damaged("its files are not those of its %s", archiveSums)
	}
	return meta, view, a.end()
}

// state reads the state and holds it to what the meta says of it.
func (a *archiveReader) state(meta ArchiveMeta, state io.Writer) (*View, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	size, err := a.next(archiveState, MaxArchiveState)
	if err != nil {
		return nil, none, err
	}
	if size != meta.Size {
		return nil, none, damaged("its %s is %d bytes instead of the %d that its %s says", archiveState, size, meta.Size, archiveMeta)
	}
	sum := sha256.New()
	var out io.Writer = sum
	kept := &keeper{w: state}
	if state != nil {
		out = io.MultiWriter(sum, kept)
	}
	view, err := ReadSnapshot(io.TeeReader(a, out))
	if kept.err != nil {
		return nil, none, fmt.Errorf("cannot keep the state of an archive: %w", kept.err)
	}
	if err != nil {
		what := "has no state that can be read: " + err.Error()
		if why, ok := strings.CutPrefix(err.Error(), textDamagedState); ok {
			what = "is damaged: in its " + archiveState + ", " + why
		}
		return nil, none, &ArchiveFault{What: what, text: err.Error(), cause: err}
	}
	cluster := view.Cluster()
	switch {
	case meta.Index < view.Index:
		// The log would go on below what the state holds.
		return nil, none, damaged("its %s says index %d, and its state stands at %d", archiveMeta, meta.Index, view.Index)
	case meta.Cluster != hex.EncodeToString(cluster[:]):
		return nil, none, damaged("its %s names the cluster %s, and its state %x", archiveMeta, meta.Cluster, cluster)
	case meta.StateHash != view.sum.String():
		return nil, none, damaged("its %s names the state hash %s, and its state has %s", archiveMeta, meta.StateHash, view.sum)
	}
	return view, [sha256.Size]byte(sum.Sum(nil)), nil
}

// keeper keeps the error of a writer.
type keeper struct {
	w   io.Writer
	err error
}

func (k *keeper) Write(b []byte) (int, error) {
	n, err := k.w.Write(b)
	k.err = err
	return n, err
}

// next goes to the next file, which must have this name, and returns its size.
func (a *archiveReader) next(name string, limit int64) (int64, error) {
	head, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return 0, damaged("it ends before its %s", name)
	case err != nil && a.file == "":
		return 0, noArchive("what is compressed in it is no tar that begins with %s", name)
	case err != nil:
		return 0, damaged("before its %s: %w", name, err)
	case head.Name != name:
		return 0, noArchive("%q stands where %s is expected", head.Name, name)
	case head.Typeflag != tar.TypeReg:
		return 0, noArchive("its %s is no plain file", name)
	case head.Size > limit:
		return 0, fmt.Errorf("the %s of an archive is %d bytes, which exceeds the limit of %d", name, head.Size, limit)
	}
	a.file, a.size, a.got = name, head.Size, counter{}
	return head.Size, nil
}

// small reads a file that is small.
func (a *archiveReader) small(name string, limit int64) ([]byte, error) {
	if _, err := a.next(name, limit); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(a)
	if err != nil {
		return nil, damaged("in its %s: %w", name, err)
	}
	return b, nil
}

// end reads what is left, so that the checksum of the compression is looked at.
func (a *archiveReader) end() error {
	head, err := a.tar.Next()
	if err == nil {
		return damaged("%q stands behind its %s", head.Name, archiveSums)
	}
	if !errors.Is(err, io.EOF) {
		return damaged("behind its %s: %w", archiveSums, err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(a.in, maxArchiveTail+1))
	if err != nil {
		return err
	}
	if n > maxArchiveTail {
		return damaged("more than %d bytes stand behind its last file", maxArchiveTail)
	}
	return nil
}

// Rehome copies a snapshot (the state.bin of an archive) and gives it the ID of
// another cluster, so that a restore does not change who the cluster is.
func Rehome(in io.Reader, out io.Writer, cluster ClusterID) error {
	v, err := ReadSnapshot(in)
	if err != nil {
		return err
	}
	return WriteSnapshot(out, v.Rehome(cluster))
}

// Rehome returns a view like v with the ID of another cluster, or without one
// if cluster is zero. It belongs to no machine.
func (v *View) Rehome(cluster ClusterID) *View {
	tx := v.begin(newRowEncoder(), v.Index, v.At)
	if cluster == (ClusterID{}) {
		tx.Facts().Delete(factCluster)
	} else {
		tx.Facts().Set(factCluster, &Fact{Name: factCluster, Value: cluster[:]})
	}
	next := tx.commit()
	next.line, next.gone = 0, make(chan struct{})
	return next
}
