package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The functions here make a Key's parse function: where the value goes, and what is
// allowed. Each error is the end of a sentence that begins with the setting's name.

func text(field func(*Config) *string, check func(string) error) func(*Config, string) error {
	return func(c *Config, value string) error {
		if err := check(value); err != nil {
			return err
		}
		*field(c) = value
		return nil
	}
}

func notEmpty(value string) error {
	if value == "" {
		return fmt.Errorf("must not be empty")
	}
	return nil
}

func hostPort(value string) error {
	_, port, err := net.SplitHostPort(value)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("must be a host and a port of 0 to 65535, such as 127.0.0.1:7070, not %q", value)
	}
	return nil
}

func anything(string) error { return nil }

func emptyOr(check func(string) error) func(string) error {
	return func(value string) error {
		if value == "" {
			return nil
		}
		return check(value)
	}
}

// hostPorts checks a list of addresses that are separated by commas.
func hostPorts(value string) error {
	for address := range strings.SplitSeq(value, ",") {
		if err := emptyOr(hostPort)(strings.TrimSpace(address)); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("must be one of %s, not %q", strings.Join(allowed, ", "), value)
		}
		return nil
	}
}

func integer(field func(*Config) *int, least, most int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("must be a whole number from %d to %d, not %q", least, most, value)
		}
		*field(c) = n
		return nil
	}
}

func duration(field func(*Config) *time.Duration, least, most time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < least || d > most {
			return fmt.Errorf("must be a time from %s to %s with its unit, such as 90s, 15m or 24h, not %q", span(least), span(most), value)
		}
		*field(c) = d
		return nil
	}
}

// span writes a duration as people write it in a file: 24h rather than 24h0m0s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnits are the units of sizes, the longest first. A unit is written without a space.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
}

func bytes(field func(*Config) *int64, least, most int64) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, ok := parseSize(value)
		if !ok || n < least || n > most {
			return fmt.Errorf("must be a size from %s to %s, such as 512MiB or a number of bytes, not %q", size(least), size(most), value)
		}
		*field(c) = n
		return nil
	}
}

func parseSize(value string) (n int64, ok bool) {
	unit := int64(1)
	for _, u := range sizeUnits {
		if number, has := strings.CutSuffix(value, u.name); has {
			value, unit = number, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, false
	}
	return n * unit, true
}

// size writes a number of bytes in its greatest whole unit.
func size(n int64) string {
	for _, u := range sizeUnits {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}
