//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// fsck runs `parley fsck` on the data.
func (s *site) fsck(ctx context.Context, r *Report) error {
	s.say("checking the data")
	out, err := exec.CommandContext(ctx, s.server.program, "fsck", s.server.data()).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Other++
		r.Errors++
		if r.FirstError == "" {
			r.FirstError = "fsck: " + strings.TrimSpace(string(out))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: fsck: %w", errServer, err)
	}
	s.say("%s", strings.TrimSpace(string(out)))
	return nil
}
