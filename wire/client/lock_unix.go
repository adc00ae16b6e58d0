//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package client

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// lockFile takes a file for this process until it is closed, or the process ends.
func lockFile(path string) (io.Closer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrOutboxInUse, path, err)
	}
	return file, nil
}
