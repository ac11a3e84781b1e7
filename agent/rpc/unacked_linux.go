package rpc

import (
	"net"
	"syscall"
	"unsafe"
)

// unacked is how many bytes were written to a connection that have not come to the
// other machine, as far as this one knows; of what is no socket it is nothing.
func unacked(conn net.Conn) int {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32
	if raw.Control(func(fd uintptr) {
		if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); failed != 0 {
			n = 0
		}
	}) != nil {
		return 0
	}
	return int(n)
}
