package shard

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata/*.txt")

// A step is one block of a transcript: a command with options, lines of input, and what
// the command is expected to say.
//
//	command word key=value
//	input
//	----
//	output
//	(empty line)
type step struct {
	comment  string
	command  string
	words    []string
	options  map[string]string
	input    []string
	expected string
}

// parseLine splits words from key=value options. body= takes the rest of the line.
func parseLine(line string) (words []string, options map[string]string) {
	options = make(map[string]string)
	line, body, found := strings.Cut(line, " body=")
	if found {
		options["body"] = body
	}
	for _, word := range strings.Fields(line) {
		if key, value, ok := strings.Cut(word, "="); ok {
			options[key] = value
		} else {
			words = append(words, word)
		}
	}
	return words, options
}

func parseScript(t *testing.T, path string) (steps []step) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	var comment strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			comment.WriteString(line + "\n")
			continue
		}
		s := step{comment: comment.String(), command: line}
		comment.Reset()
		s.words, s.options = parseLine(line)
		for lines.Scan() && lines.Text() != "----" {
			s.input = append(s.input, lines.Text())
		}
		var output strings.Builder
		for lines.Scan() && lines.Text() != "" {
			output.WriteString(lines.Text() + "\n")
		}
		s.expected = output.String()
		steps = append(steps, s)
	}
	return steps
}

// runScripts runs every transcript of a folder through the player that start makes for it.
func runScripts(t *testing.T, pattern string, start func(t *testing.T) func(s *step) string) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts in %s: %v", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			play := start(t)
			var rewritten strings.Builder
			for _, s := range parseScript(t, path) {
				got := play(&s)
				if got != s.expected && !*update {
					t.Fatalf("%s: %s\n%s\ngot:\n%s\nwant:\n%s", path, s.command, strings.Join(s.input, "\n"), got, s.expected)
				}
				fmt.Fprintf(&rewritten, "\n%s%s\n", s.comment, s.command)
				for _, line := range s.input {
					rewritten.WriteString(line + "\n")
				}
				fmt.Fprintf(&rewritten, "----\n%s", got)
			}
			if *update {
				text := strings.TrimPrefix(rewritten.String(), "\n")
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// number reads a numeric option.
func number(t testing.TB, options map[string]string, key string, otherwise uint64) uint64 {
	t.Helper()
	text, ok := options[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", key, text, err)
	}
	return n
}
