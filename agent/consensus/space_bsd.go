//go:build darwin || freebsd

package consensus

import "syscall"

// lookAtSpace asks for the space of the file system that a folder is on.
func lookAtSpace(dir string) (space, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return space{}, err
	}
	return space{free: int64(s.Bavail) * int64(s.Bsize), total: int64(s.Blocks) * int64(s.Bsize)}, nil
}
