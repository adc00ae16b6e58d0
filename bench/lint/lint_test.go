package lint

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// update rewrites the expectations: go test ./bench/lint -update
var update = flag.Bool("update", false, "rewrite what the trees of testdata should report")

func TestTheTreeKeepsItsRules(t *testing.T) {
	tree, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 50 {
		t.Fatalf("%d Go files: this is not the root of the project", len(tree.Go))
	}
	for _, report := range Check(tree) {
		t.Errorf("%s (%s):\n%s", report.Rule.Name, report.Rule.Why, join(report.Findings))
	}
}

func join(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}

// archive is a small tree in one file: sections that begin with "-- name --". The last is named
// want and holds the findings.
func readArchive(t *testing.T, name string) (tree fstest.MapFS, want, trees string) {
	t.Helper()
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	trees, want, ok := strings.Cut(string(source), "-- want --\n")
	if !ok {
		t.Fatalf("%s: no section named want", name)
	}
	tree = fstest.MapFS{}
	for _, section := range strings.Split("\n"+trees, "\n-- ")[1:] {
		head, body, ok := strings.Cut(section, " --\n")
		if !ok {
			t.Fatalf("%s: section without a name: %q", name, section)
		}
		tree[head] = &fstest.MapFile{Data: []byte(body)}
	}
	return tree, want, trees
}

// TestEveryRuleObjects runs each rule alone over its bad tree.
func TestEveryRuleObjects(t *testing.T) {
	for _, rule := range Rules {
		t.Run(rule.Name, func(t *testing.T) {
			name := filepath.Join("testdata", strings.ReplaceAll(rule.Name, " ", "_")+".txt")
			files, want, trees := readArchive(t, name)
			tree, err := Load(files)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, report := range Check(tree) {
				if report.Rule.Name == rule.Name {
					got = strings.ReplaceAll(join(report.Findings), "  ", "")
				}
			}
			if *update {
				if err := os.WriteFile(name, []byte(trees+"-- want --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("found\n%swant\n%s", got, want)
			}
			if got == "" {
				t.Error("the rule finds nothing in its bad tree")
			}
		})
	}
}

// one makes a tree of a single Go file.
func one(t *testing.T, name, source string) *Tree {
	t.Helper()
	tree, err := Load(fstest.MapFS{name: &fstest.MapFile{Data: []byte(source)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Broken) > 0 {
		t.Fatal(tree.Broken)
	}
	return tree
}

func TestSizesAreCountedToTheLine(t *testing.T) {
	function := func(lines int) string {
		return "package a\n\nfunc f() {\n" + strings.Repeat("\tf()\n", lines-2) + "}\n"
	}
	file := func(lines int) string { return "package a\n" + strings.Repeat("\n", lines-1) }
	table := "package a\n\nfunc f() {\n\tcases := []int{\n" + strings.Repeat("\t\t1,\n", 100) + "\t}\n\t_ = cases\n}\n"
	for _, test := range []struct {
		name, source string
		findings     int
	}{
		{"a.go", function(FunctionLinesMax), 0},
		{"a.go", function(FunctionLinesMax + 1), 1},
		{"a_test.go", function(FunctionLinesMax + 1), 1},
		{"a.go", file(FileLinesMax), 0},
		{"a.go", file(FileLinesMax + 1), 1},
		{"a.go", table, 1},
		{"a_test.go", table, 0},
	} {
		if got := checkSizes(one(t, test.name, test.source)); len(got) != test.findings {
			t.Errorf("%s of %d bytes: %v, want %d", test.name, len(test.source), got, test.findings)
		}
	}
	makefile := func(lines int) *Tree {
		return &Tree{Makefile: []byte(".DEFAULT_GOAL := help\n" + strings.Repeat("\n", lines-1))}
	}
	if got := checkMakefile(makefile(MakefileLinesMax)); len(got) != 0 {
		t.Error(got)
	}
	if got := checkMakefile(makefile(MakefileLinesMax + 1)); len(got) != 1 {
		t.Errorf("one line too many: %v", got)
	}
}

func TestIgnoredFilesAreNotLookedAt(t *testing.T) {
	tree, err := Load(fstest.MapFS{
		".gitignore":           {Data: []byte("# built\n/bin/\n*.out\n")},
		"bin/parley":           {},
		"cpu.out":              {},
		"wire/testdata/bad.go": {Data: []byte("not Go")},
		"wire/bin/a.go":        {Data: []byte("package bin\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Broken) != 0 || len(tree.Go) != 1 || len(checkLayout(tree)) != 0 {
		t.Errorf("broken %v, %d Go files, layout %v", tree.Broken, len(tree.Go), checkLayout(tree))
	}
}
