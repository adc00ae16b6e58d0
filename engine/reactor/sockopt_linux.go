package reactor

import (
	"time"

	"golang.org/x/sys/unix"
)

// setPeerTimeout bounds how long sent bytes may stay unacknowledged: a phone that has
// left its network is found out by the next push. A failure leaves the kernel's 15 min.
func setPeerTimeout(fd int, timeout time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout/time.Millisecond))
}
