package consensus

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapPages takes the pages of a file that is mapped for reading out of this
// process. Nothing is lost: the mapping stays, and is of the file. Nobody may
// unmap it meanwhile, since something else might come in its place.
func unmapPages(path string) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return // the process only looks larger than it is
	}
	for _, m := range mappingsOf(string(maps), path) {
		// This is advice, and need not be taken.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.begin, m.end-m.begin, syscall.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ begin, end uintptr }

// mappingsOf returns where a file is mapped, to be read and shared. A line of
// the kernel's list is
//
//	begin-end rwxs offset device inode      path
func mappingsOf(maps, path string) (found []mapping) {
	// The kernel writes the end of a line in a name as its octal number.
	path = strings.ReplaceAll(path, "\n", `\012`)
	for line := range strings.Lines(maps) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasSuffix(line, path) {
			continue
		}
		addresses, rest, _ := strings.Cut(line, " ")
		for range 4 { // what the file is, in words without spaces
			_, rest, _ = strings.Cut(rest, " ")
		}
		kind := line[min(len(line), len(addresses)+1):]
		if strings.TrimLeft(rest, " ") != path || !strings.HasPrefix(kind, "r--s ") {
			continue
		}
		from, to, _ := strings.Cut(addresses, "-")
		begin, err := strconv.ParseUint(from, 16, strconv.IntSize)
		if err != nil {
			continue
		}
		end, err := strconv.ParseUint(to, 16, strconv.IntSize)
		if err != nil || end <= begin {
			continue
		}
		found = append(found, mapping{uintptr(begin), uintptr(end)})
	}
	return found
}
