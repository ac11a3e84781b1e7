package consensus

import "syscall"

// unmapPages takes the pages of a mapped file out of this process. Nothing is
// lost: the mapping stays, and is of the file.
func unmapPages(data uintptr, size int) {
	if size > 0 {
		// This is advice. If it is not taken, the process only looks larger than it is.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, data, uintptr(size), syscall.MADV_DONTNEED)
	}
}
