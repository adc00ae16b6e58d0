package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// socketPathBytesMax is the longest path that every Unix takes in a socket's address:
// sockaddr_un has 104 bytes on BSD and macOS and 108 on Linux, with the final zero.
const socketPathBytesMax = 103

// socketAddress is a name for a socket's path that fits into an address. On Linux a
// path that is too long is named through its directory's descriptor, which must stay
// open until the socket is bound or connected: done closes it.
func socketAddress(path string) (address string, done func(), err error) {
	if len(path) <= socketPathBytesMax {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path of the socket has %d bytes and %d are allowed: use a shorter data directory: %s",
			len(path), socketPathBytesMax, path)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	// Closing a directory that was only read cannot lose anything.
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path)), func() { _ = d.Close() }, nil
}
