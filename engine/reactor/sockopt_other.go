//go:build !linux

package reactor

import "time"

// setPeerTimeout does nothing where the kernel has no such option.
func setPeerTimeout(int, time.Duration) {}
