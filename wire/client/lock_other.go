//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package client

import (
	"io"
	"os"
)

// lockFile takes a file without keeping others away, where the system has no lock that
// ends with its process.
func lockFile(path string) (io.Closer, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
