package demo

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsMissingDoubledOrOutOfOrderIsALoss(t *testing.T) {
	one, two, three := message{1, "ada", "one"}, message{2, "bob", "two"}, message{3, "ada", "three"}
	d := &demo{told: []message{one, two, three}}
	if err := d.compare("ada finds", []message{one, two, three}); err != nil {
		t.Errorf("everything is there: %v", err)
	}
	for name, found := range map[string][]message{
		"nothing":        nil,
		"the last":       {one, two},
		"the first":      {two, three},
		"the middle":     {one, three},
		"doubled":        {one, two, two, three},
		"out of order":   {one, three, two},
		"another author": {one, {2, "ada", "two"}, three},
		"another text":   {one, {2, "bob", "tow"}, three},
		"one too many":   {one, two, three, {4, "bob", "four"}},
	} {
		if err := d.compare("ada finds", found); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An acknowledgement that came twice, or skipped a number.
	for _, told := range [][]message{{one, one}, {one, three}, {two}} {
		d := &demo{told: told}
		if err := d.compare("ada finds", told); !errors.Is(err, errLost) {
			t.Errorf("told %v: %v", told, err)
		}
	}
	if n := (&demo{told: []message{one, two, three}}).lastOf("bob"); n != 2 {
		t.Errorf("bob's last message is %d", n)
	}
}

func TestAServerThatDoesNotComeUpIsAnErrorWithItsLog(t *testing.T) {
	program := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho the disk is on fire >&2\necho something else\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Run(t.Context(), &out, program)
	if !errors.Is(err, errNotStarted) || !strings.Contains(err.Error(), "the disk is on fire") {
		t.Errorf("%v\n%s", err, &out)
	}
}
