package state

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/muster-sd/muster/kv"
)

var testMeta = ArchiveMeta{
	Index: 50, Term: 3, ConfigurationIndex: 1, Muster: "0.2.0", Datacenter: "dc1",
	Configuration: ArchiveServers{Servers: []ArchiveServer{{ID: "id-1", Address: "10.0.0.1:8300"}, {Suffrage: 1, ID: "id-2", Address: "10.0.0.2:8300"}}},
}

func archived(tb testing.TB, v *View) []byte {
	tb.Helper()
	var b bytes.Buffer
	if _, err := WriteArchive(&b, v, testMeta); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestArchiveRoundTrip(t *testing.T) {
	v := goldenView(t)
	whole := archived(t, v)
	var state bytes.Buffer
	meta, got, err := VerifyArchive(bytes.NewReader(whole), &state)
	if err != nil {
		t.Fatal(err)
	}
	if got.Hash() != v.Hash() || got.Index != v.Index || !reflect.DeepEqual(rowsOf(got), rowsOf(v)) {
		t.Errorf("got index %d hash %s, want %d %s", got.Index, got.Hash(), v.Index, v.Hash())
	}
	if again, err := ReadSnapshot(bytes.NewReader(state.Bytes())); err != nil || again.Hash() != v.Hash() {
		t.Errorf("the state that was written out: %v", err)
	}
	want := testMeta
	want.Version, want.ID, want.Protocol, want.Size = 1, "3-50-1700000000123", ProtocolVersion, int64(state.Len())
	want.Cluster, want.StateHash, want.At = strings.Repeat("07", 16), v.Hash().String(), meta.At
	if !reflect.DeepEqual(meta, want) || meta.At.UnixMilli() != v.At {
		t.Errorf("meta %+v, want %+v", meta, want)
	}
	if !bytes.Equal(archived(t, v), whole) {
		t.Error("one view gave two archives")
	}
	if _, _, err := VerifyArchive(bytes.NewReader(whole), nil); err != nil {
		t.Errorf("without a file for the state: %v", err)
	}
	if _, _, err := VerifyArchive(bytes.NewReader(whole), &brokenSink{room: 10}); !errors.Is(err, errFull) {
		t.Errorf("on a full disk: %v", err)
	}
	low := testMeta
	low.Index = v.Index - 1
	if _, err := WriteArchive(io.Discard, v, low); err == nil {
		t.Error("an archive below its state's index was written")
	}
}

func TestDamagedArchiveIsNeverRead(t *testing.T) {
	v := goldenView(t)
	whole := archived(t, v)
	want, _, err := VerifyArchive(bytes.NewReader(whole), nil)
	if err != nil {
		t.Fatal(err)
	}
	ignored := 0
	for i := range whole {
		bent := append([]byte{}, whole...)
		bent[i] ^= 0x10
		// Some bits mean nothing, as in the head (RFC 1952 §2.3) and between blocks
		// (RFC 1951 §3.2.4): then nothing is lost.
		if meta, got, err := VerifyArchive(bytes.NewReader(bent), nil); err == nil {
			ignored++
			if got.Hash() != v.Hash() || !reflect.DeepEqual(meta, want) {
				t.Errorf("an archive with a bit changed in byte %d was read", i)
			}
		}
		_, _, err = VerifyArchive(bytes.NewReader(whole[:i]), nil)
		if err == nil || !strings.HasPrefix(err.Error(), "failed to decompress snapshot: ") {
			t.Errorf("an archive cut off after %d bytes: %v", i, err)
		}
		words := fmt.Sprintf("is cut short: its %d bytes ", i)
		if i == 0 {
			words = "is empty: it has 0 bytes"
		}
		var fault *ArchiveFault
		if !errors.As(err, &fault) || !strings.HasPrefix(fault.What, words) || !strings.HasSuffix(err.Error(), ": it "+fault.What) {
			t.Errorf("an archive cut off after %d bytes: %v", i, err)
		}
	}
	if ignored > 16 {
		t.Errorf("%d of %d changed bits went unnoticed", ignored, len(whole))
	}
	if _, _, err := VerifyArchive(bytes.NewReader(append(whole, 0)), nil); err == nil || !strings.Contains(err.Error(), "behind its end") {
		t.Errorf("an archive with a byte behind its end: %v", err)
	}
}

// file is a file of an archive that a test makes up.
type file struct {
	name, body string
	kind       byte
	size       int64 // above zero: what the head says
}

func packed(tb testing.TB, files []file, tail int) []byte {
	tb.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	out := tar.NewWriter(zip)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.body)), Typeflag: tar.TypeReg, Mode: 0o600}
		if f.kind != 0 {
			h.Typeflag, h.Linkname = f.kind, "/etc/passwd"
		}
		if f.size > 0 {
			h.Size = f.size
		}
		if err := out.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(out, f.body); err != nil {
			tb.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil && tail == 0 {
		tb.Logf("an archive that ends within a file: %v", err)
	}
	if _, err := zip.Write(make([]byte, 1024+tail)); err != nil {
		tb.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// unpacked are the files of an archive.
func unpacked(tb testing.TB, b []byte) []file {
	tb.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		tb.Fatal(err)
	}
	var out []file
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		body, err := io.ReadAll(in)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, file{name: h.Name, body: string(body)})
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	good := unpacked(t, archived(t, goldenView(t)))
	if len(good) != 3 {
		t.Fatalf("%d files", len(good))
	}
	if _, _, err := VerifyArchive(bytes.NewReader(packed(t, good, 0)), nil); err != nil {
		t.Fatalf("packed by another program: %v", err)
	}
	change := func(f func([]file) []file) []file { return f(append([]file{}, good...)) }
	meta := func(f func(*ArchiveMeta)) []file {
		return change(func(files []file) []file {
			var m ArchiveMeta
			if err := json.Unmarshal([]byte(files[0].body), &m); err != nil {
				t.Fatal(err)
			}
			f(&m)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			files[0].body = string(b)
			return files
		})
	}
	zeros := strings.Repeat("\x00", 8<<20)
	cases := []struct {
		name  string
		files []file
		tail  int
		want  string
	}{
		{"empty", nil, 0, "it ends before its meta.json"},
		{"no state", good[:1], 0, "it ends before its state.bin"},
		{"no sums", good[:2], 0, "it ends before its SHA256SUMS"},
		{"wrong order", []file{good[1], good[0], good[2]}, 0, `"state.bin" stands where meta.json is expected`},
		{"path outside", change(func(f []file) []file { f[1].name = "../../state.bin"; return f }), 0, `"../../state.bin" stands where state.bin is expected`},
		{"a link", change(func(f []file) []file { f[1] = file{name: archiveState, kind: tar.TypeSymlink}; return f }), 0, "its state.bin is no plain file"},
		{"a fourth file", append(change(func(f []file) []file { return f }), file{name: "more", body: "x"}), 0, `"more" stands behind its SHA256SUMS`},
		{"large meta", change(func(f []file) []file { f[0].body = zeros[:maxArchiveMeta+1]; return f }), 0, "meta.json of an archive is 1048577 bytes, which exceeds the limit of 1048576"},
		{"large sums", change(func(f []file) []file { f[2].body = zeros[:maxArchiveSums+1]; return f }), 0, "SHA256SUMS of an archive is 4097 bytes, which exceeds the limit of 4096"},
		{"large state", change(func(f []file) []file { f[1].size = MaxArchiveState + 1; f[1].body = ""; return f[:2] }), 0, "state.bin of an archive is 1073741825 bytes, which exceeds the limit of 1073741824"},
		{"bomb in the tail", good, maxArchiveTail * 100, "more than 65536 bytes stand behind its last file"},
		{"meta is no JSON", change(func(f []file) []file { f[0].body = "{"; return f }), 0, "cannot read its meta.json"},
		{"later version", meta(func(m *ArchiveMeta) { m.Version = 2 }), 0, "an archive of version 2 cannot be read"},
		{"size differs", meta(func(m *ArchiveMeta) { m.Size++ }), 0, "bytes instead of the"},
		{"index too low", meta(func(m *ArchiveMeta) { m.Index = 41 }), 0, "says index 41, and its state stands at 42"},
		{"other cluster", meta(func(m *ArchiveMeta) { m.Cluster = "00" }), 0, "names the cluster 00"},
		{"other hash", meta(func(m *ArchiveMeta) { m.StateHash = "00" }), 0, "names the state hash 00"},
		{"meta not in the sums", meta(func(m *ArchiveMeta) { m.Term++ }), 0, "its files are not those of its SHA256SUMS"},
		{"sums differ", change(func(f []file) []file { f[2].body = strings.ToUpper(f[2].body); return f }), 0, "its files are not those of its SHA256SUMS"},
		{"foreign state", meta(func(m *ArchiveMeta) {}), 0, ""},
	}
	foreign := &cases[len(cases)-1]
	foreign.files = change(func(f []file) []file {
		f[0].body = strings.Replace(f[0].body, `"Size": `, `"Size": 8388608, "Ignored": `, 1)
		f[1].body = zeros
		return f
	})
	foreign.want = "this is not a snapshot of Muster's state"
	for _, c := range cases {
		var state bytes.Buffer
		_, v, err := VerifyArchive(bytes.NewReader(packed(t, c.files, c.tail)), &state)
		if err == nil || !strings.Contains(err.Error(), c.want) || v != nil {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
		// What is refused early is not unfolded first.
		if c.name == "foreign state" && state.Len() > 2*blockSize {
			t.Errorf("%s: %d bytes were unfolded", c.name, state.Len())
		}
	}
	for _, b := range [][]byte{nil, []byte("x"), []byte("this is no gzip at all")} {
		if _, _, err := VerifyArchive(bytes.NewReader(b), nil); err == nil || !strings.HasPrefix(err.Error(), "failed to decompress snapshot: ") {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// What is wrong with a file is told in one line that anybody understands, and how far
// one goes that was cut short.
func TestArchiveFaults(t *testing.T) {
	v := goldenView(t)
	whole := archived(t, v)
	files := unpacked(t, whole)
	flip := func(i int) []byte {
		b := bytes.Clone(whole)
		b[i] ^= 0xff
		return b
	}
	// Without compression a file can be cut where it is wanted.
	var plain bytes.Buffer
	zip, err := gzip.NewWriterLevel(&plain, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	all, err := gzip.NewReader(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(zip, all); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	const head, fill = 10 + 5, 512 // of the gzip with its first block, and of a tar
	meta := head + fill + len(files[0].body)
	state := head + fill + (len(files[0].body)+fill-1)/fill*fill + fill
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":            {nil, "is empty: it has 0 bytes"},
		"one byte":         {whole[:1], "is cut short: its 1 bytes end before its meta.json"},
		"in the meta":      {plain.Bytes()[:meta-10], fmt.Sprintf("is cut short: its %d bytes hold %d of the %d bytes of its meta.json", meta-10, len(files[0].body)-10, len(files[0].body))},
		"in the state":     {plain.Bytes()[:state+100], fmt.Sprintf("is cut short: its %d bytes hold 100 of the %d bytes of its state.bin", state+100, len(files[1].body))},
		"without an end":   {whole[:len(whole)-1], fmt.Sprintf("is cut short: its %d bytes end behind its SHA256SUMS", len(whole)-1)},
		"one other byte":   {[]byte("x"), "is not an archive of Muster's state: it does not begin as a gzip does"},
		"text":             {[]byte("this is no archive"), "is not an archive of Muster's state: it does not begin as a gzip does"},
		"text in a gzip":   {zipped(t, []byte("this is no archive")), "is not an archive of Muster's state: what is compressed in it is no tar that begins with meta.json"},
		"another tar":      {packed(t, []file{{name: "x", body: "y"}}, 0), `is not an archive of Muster's state: "x" stands where meta.json is expected`},
		"a flipped sum":    {flip(len(whole) - 6), "is damaged: the checksum of what is compressed in it does not hold"},
		"a flipped block":  {flip(10), "is damaged: what is compressed in it makes no sense at byte "},
		"more at its end":  {append(bytes.Clone(whole), 0), "is damaged: something stands behind its end"},
		"a flipped state":  {packed(t, []file{files[0], {name: archiveState, body: bent(files[1].body)}, files[2]}, 0), "is damaged: in its state.bin, "},
		"a flipped sum, 2": {packed(t, []file{files[0], files[1], {name: archiveSums, body: bent(files[2].body)}}, 0), "is damaged: its files are not those of its SHA256SUMS"},
	} {
		_, _, err := VerifyArchive(bytes.NewReader(c.content), nil)
		var fault *ArchiveFault
		if !errors.As(err, &fault) || !strings.HasPrefix(fault.What, c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, want that it %s", name, err, c.want)
		}
	}
	if _, _, err := VerifyArchive(iotest.ErrReader(errors.New("a bad disk")), nil); err == nil || !strings.Contains(err.Error(), "a bad disk") || strings.Contains(err.Error(), "empty") {
		t.Errorf("what cannot be read: %v", err)
	}
}

// bent is a text with a bit changed in its middle.
func bent(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

func zipped(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if _, err := zip.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestRehomeKeepsAllButTheClusterID(t *testing.T) {
	v := goldenView(t)
	var in, out bytes.Buffer
	if err := WriteSnapshot(&in, v); err != nil {
		t.Fatal(err)
	}
	mine := ClusterID{1, 2, 3}
	if err := Rehome(&in, &out, mine); err != nil {
		t.Fatal(err)
	}
	got, err := ReadSnapshot(&out)
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster() != mine || got.Recount() != got.Hash() || got.Index != v.Index || got.At != v.At {
		t.Errorf("cluster %x index %d", got.Cluster(), got.Index)
	}
	if back := got.Rehome(v.Cluster()); back.Hash() != v.Hash() || !reflect.DeepEqual(rowsOf(back), rowsOf(v)) {
		t.Error("more than the cluster's ID was changed")
	}
	if none := got.Rehome(ClusterID{}); none.Cluster() != (ClusterID{}) || none.Recount() != none.Hash() {
		t.Errorf("without a cluster: %x", none.Cluster())
	}
	if err := Rehome(strings.NewReader("nonsense"), io.Discard, mine); err == nil {
		t.Error("nonsense was rehomed")
	}
}

func TestInspectCountsAllRowsOnce(t *testing.T) {
	m := NewMachine()
	for i, key := range []string{"a", "a/b", "a/b/c", "a/b/c/d", "b/1", "b/2", "/x/y", "\xff\xfe"} {
		m.Apply(entry(t, uint64(i+1), &kv.Set{Key: key, Value: make([]byte, i)}))
	}
	m.Apply(entry(t, 20, registration(1, 80)))
	m.Apply(entry(t, 21, &kv.Delete{Key: "b/2"}))
	v := m.View()
	var b bytes.Buffer
	if err := WriteSnapshot(&b, v); err != nil {
		t.Fatal(err)
	}
	names := func(o InspectOptions) (out []string) {
		in := v.Inspect(o)
		var sum int64
		for _, k := range in.Keys {
			out = append(out, k.Name)
			sum += k.Size
		}
		if sum != in.KeysSize {
			t.Errorf("%+v: the keys add up to %d, total %d", o, sum, in.KeysSize)
		}
		return out
	}
	in := v.Inspect(InspectOptions{})
	rows := 0
	var size int64
	for i, a := range in.Types {
		rows += a.Count
		size += a.Size
		if i > 0 && a.Size > in.Types[i-1].Size {
			t.Errorf("%s stands behind %s", a.Name, in.Types[i-1].Name)
		}
		if a.Name == "KV" && a.Count != 7 || strings.HasPrefix(a.Name, "Table") {
			t.Errorf("%+v", a)
		}
	}
	if rows != len(rowsOf(v)) || size != in.Size || in.Keys == nil || len(in.Keys) != 0 {
		t.Errorf("%d rows of %d, %d bytes of %d, keys %v", rows, len(rowsOf(v)), size, in.Size, in.Keys)
	}
	// All that a snapshot is besides are its head, its end and one block.
	if rest := int64(b.Len()) - in.Size; rest < 0 || rest > 300 {
		t.Errorf("a snapshot of %d bytes has rows of %d", b.Len(), in.Size)
	}
	for _, c := range []struct {
		o    InspectOptions
		want string
	}{
		{InspectOptions{Keys: true}, "a  \xff\xfe b"},
		{InspectOptions{Keys: true, Depth: 2}, "a/b /x \xff\xfe b/1 a"},
		{InspectOptions{Keys: true, Depth: 9, Filter: "a/b/"}, "a/b/c/d a/b/c"},
	} {
		if got := strings.Join(names(c.o), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func TestWriteJSONShowsEveryRow(t *testing.T) {
	m := NewMachine()
	m.Apply(entry(t, 1, &kv.Set{Key: "<a>", Value: []byte("v")}))
	m.Apply(entry(t, 2, &kv.Set{Key: "\xff", Value: []byte("v")}))
	m.Apply(entry(t, 3, &kv.Set{Key: "\xfe"}))
	m.Apply(entry(t, 4, &kv.Delete{Key: "\xfe"}))
	m.Apply(entry(t, 5, registration(1, 80)))
	var b bytes.Buffer
	if err := m.View().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != len(rowsOf(m.View())) {
		t.Errorf("%d lines for %d rows", len(lines), len(rowsOf(m.View())))
	}
	for _, want := range []string{
		`{"Type":"KV","Data":{"Key":"<a>","Value":"dg==","Flags":0,"Session":"","LockIndex":0,"Version":1,"CreateIndex":1,"ModifyIndex":1}}`,
		`{"Type":"KV","Data":{"Value":"dg==","Flags":0,"Session":"","LockIndex":0,"Version":1,"CreateIndex":2,"ModifyIndex":2,"KeyBytes":"/w=="}}`,
		`{"Type":"KVTombstone","Data":{"Tree":false,"Index":4,"At":1700000000004,"KeyBytes":"/g=="}}`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no line %s in\n%s", want, b.String())
		}
	}
	for _, l := range lines {
		var row struct {
			Type string
			Data map[string]any
		}
		if err := json.Unmarshal([]byte(l), &row); err != nil || row.Type == "" || len(row.Data) == 0 {
			t.Errorf("%s: %v", l, err)
		}
	}
	if err := m.View().WriteJSON(&brokenSink{}); !errors.Is(err, errFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

func FuzzVerifyArchive(f *testing.F) {
	f.Add(archived(f, goldenView(f)))
	f.Add(archived(f, newView()))
	good := unpacked(f, archived(f, newView()))
	f.Add(packed(f, good, 0))
	f.Add(packed(f, good[:2], 10))
	f.Fuzz(func(t *testing.T, in []byte) {
		var state bytes.Buffer
		peeked, peekErr := PeekArchive(bytes.NewReader(in))
		meta, v, err := VerifyArchive(bytes.NewReader(in), &state)
		if err == nil && (peekErr != nil || !reflect.DeepEqual(peeked, meta)) {
			t.Errorf("it says %+v at a glance, and is %+v: %v", peeked, meta, peekErr)
		}
		if err != nil {
			if v != nil {
				t.Error("a view came with an error")
			}
			return
		}
		if v.Recount() != v.Hash() || meta.Size != int64(state.Len()) {
			t.Error("an archive was read that does not hold")
		}
		if _, err := ReadSnapshot(&state); err != nil {
			t.Error(err)
		}
	})
}

// FuzzArchiveFiles bends what is in the files, where the compression's own
// checksum holds.
func FuzzArchiveFiles(f *testing.F) {
	good := unpacked(f, archived(f, goldenView(f)))
	f.Add(good[0].body, good[1].body, good[2].body, 0)
	f.Fuzz(func(t *testing.T, meta, state, sums string, tail int) {
		files := []file{{name: archiveMeta, body: meta}, {name: archiveState, body: state}, {name: archiveSums, body: sums}}
		_, v, err := VerifyArchive(bytes.NewReader(packed(t, files, min(max(tail, 0), 1<<20))), nil)
		if err == nil && v.Recount() != v.Hash() {
			t.Error("an archive was read that does not hold")
		}
	})
}
