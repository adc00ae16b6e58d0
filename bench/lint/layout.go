package lint

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// MakefileLinesMax bounds the Makefile.
const MakefileLinesMax = 79

// topLevel is all that may stand at the root, besides names that begin with a dot.
var topLevel = []string{"engine", "wire", "storage", "raft", "bench", "cmd", "go.mod", "go.sum", "Makefile", "README.md",
	"LICENSE", "CHANGELOG.md"}

func checkLayout(t *Tree) []Finding {
	var findings []Finding
	for _, name := range t.Root {
		if !strings.HasPrefix(name, ".") && !slices.Contains(topLevel, name) {
			findings = append(findings, Finding{Path: name, Text: "the top level is fixed: put it below one of its folders"})
		}
	}
	return findings
}

func checkMakefile(t *Tree) []Finding {
	var findings []Finding
	if n := countLines(t.Makefile); n > MakefileLinesMax {
		findings = append(findings, Finding{Path: "Makefile", Text: fmt.Sprintf("%d lines, want at most %d", n, MakefileLinesMax)})
	}
	if t.Makefile != nil && !bytes.Contains(t.Makefile, []byte(".DEFAULT_GOAL := help")) {
		findings = append(findings, Finding{Path: "Makefile", Text: "`make` alone must print what there is: .DEFAULT_GOAL := help"})
	}
	return findings
}

var (
	markdownLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	markdownFence = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$")
)

// checkLinks follows the relative links of every document.
func checkLinks(t *Tree) []Finding {
	var findings []Finding
	for name, source := range t.Markdown {
		// Code blocks keep their lines, so that the numbers stay right.
		text := markdownFence.ReplaceAllStringFunc(string(source), func(s string) string {
			return strings.Repeat("\n", strings.Count(s, "\n"))
		})
		for _, at := range markdownLink.FindAllStringSubmatchIndex(text, -1) {
			target := text[at[2]:at[3]]
			file, _, _ := strings.Cut(target, "#")
			if file == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if file = path.Join(path.Dir(name), file); file != "." && !t.Paths[file] {
				findings = append(findings, Finding{Path: name, Line: 1 + strings.Count(text[:at[2]], "\n"),
					Text: "link to " + target + ", which does not exist"})
			}
		}
	}
	return findings
}
