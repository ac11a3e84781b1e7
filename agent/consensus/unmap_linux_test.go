package consensus

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// mapped is how many bytes of a file count as memory of this process.
func mapped(t *testing.T, path string) (bytes int) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skipf("this kernel does not tell what a process has mapped: %v", err)
	}
	defer file.Close()
	ours, found := false, false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasSuffix(fields[0], ":") {
			ours = strings.HasSuffix(line, path)
			found = found || ours
		}
		var kilobytes int
		if _, err := fmt.Sscanf(line, "Rss: %d kB", &kilobytes); err == nil && ours {
			bytes += kilobytes << 10
		}
	}
	if !found {
		t.Fatalf("%s is not mapped", path)
	}
	return bytes
}

// What bolt has mapped is given back by itself as a log is read and written, and
// all is there as before. The folder is reached through a link, and has a name
// with a space and a line break.
func TestMappedPagesAreGivenBack(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a b\nc")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	s, err := newBoltStore(filepath.Join(link, logFile), boltOptions(false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const entries, size = 64, 1 << 20
	for i := range uint64(entries) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		if now := mapped(t, `c/`+logFile); now > 2*maxMapped {
			t.Fatalf("after %d entries were written, %d MiB are mapped", i+1, now>>20)
		}
	}
	most := 0
	for i := range uint64(entries) {
		var e raft.Log
		if err := s.GetLog(i+1, &e); err != nil || len(e.Data) != size || e.Index != i+1 {
			t.Fatalf("entry %d: %d bytes, %v", i+1, len(e.Data), err)
		}
		most = max(most, mapped(t, `c/`+logFile))
	}
	if most > 2*maxMapped || most < maxMapped/8 {
		t.Errorf("while %d MiB were read, %d MiB were mapped", entries*size>>20, most>>20)
	}
	s.mapping.Lock()
	s.release() // does not wait
	s.mapping.Unlock()
	s.release()
	if now := mapped(t, `c/`+logFile); now > 1<<20 {
		t.Errorf("%d KiB are mapped after all was given back", now>>10)
	}
	if err := s.GetLog(entries, new(raft.Log)); err != nil {
		t.Error(err)
	}
}

// Pages are given back while others read and the file is mapped anew, and nothing
// is lost.
func TestPagesAreGivenBackUnderLoad(t *testing.T) {
	s := newBolt(t)
	const entries = 200
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				s.release()
			}
		}
	})
	group.Go(func() {
		for i := uint64(1); ; i = i%entries + 1 {
			select {
			case <-done:
				return
			default:
			}
			var e raft.Log
			if err := s.GetLog(i, &e); err == nil && (e.Index != i || e.Data[i] != byte(i)) {
				t.Errorf("entry %d is %d", i, e.Index)
			}
		}
	})
	for i := uint64(1); i <= entries; i++ {
		data := make([]byte, 64<<10)
		data[i] = byte(i)
		if err := s.StoreLog(&raft.Log{Index: i, Data: data}); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	group.Wait()
}

func TestMappingsOf(t *testing.T) {
	const maps = `00400000-00500000 r-xp 00000000 08:01 12                         /usr/bin/muster
7f0000000000-7f0000100000 r--s 00000000 08:01 34                         /data/raft.db
7f0000100000-7f0000200000 rw-s 00000000 08:01 34                         /data/raft.db
7f0000200000-7f0000300000 r--p 00000000 08:01 34                         /data/raft.db
7f0000300000-7f0000400000 r--s 00000000 08:01 35                         /other/data/raft.db
7f0000400000-7f0000500000 r--s 00000000 08:01 36                         /data/raft.db (deleted)
7f0000500000-7f0000600000 r--s 00000000 08:01 36                         /a b/raft.db
7f0000600000-7f0000600000 r--s 00000000 08:01 34                         /data/raft.db
7f0000700000-zz r--s 00000000 08:01 34                         /data/raft.db
7f0000800000-7f0000900000 rw-p 00000000 00:00 0
7fff00000000-7fff00001000 rw-p 00000000 00:00 0                          [stack]
`
	for path, want := range map[string][]mapping{
		"/data/raft.db": {{0x7f0000000000, 0x7f0000100000}},
		"/a b/raft.db":  {{0x7f0000500000, 0x7f0000600000}},
		"b/raft.db":     nil,
		"/raft.db":      nil,
		"":              nil,
	} {
		if got := mappingsOf(maps, path); !reflect.DeepEqual(got, want) {
			t.Errorf("%q is mapped at %x, want %x", path, got, want)
		}
	}
}

func FuzzMappingsOf(f *testing.F) {
	f.Add("7f0000000000-7f0000100000 r--s 00000000 08:01 34   /data/raft.db\n", "/data/raft.db")
	f.Add("-", "-")
	f.Fuzz(func(t *testing.T, maps, path string) {
		for _, m := range mappingsOf(maps, path) {
			if m.end <= m.begin {
				t.Errorf("from %x to %x", m.begin, m.end)
			}
		}
	})
}
