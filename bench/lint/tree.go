package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the module's path in import declarations.
const Module = "parley"

// A Finding is one place that breaks a rule.
type Finding struct {
	Path string // from the root, with slashes
	Line int    // 0: the file or folder as a whole
	Text string // what is wrong, and what to do instead
}

// String is the finding as compilers print theirs, so that editors can jump to it.
func (f Finding) String() string {
	if f.Line == 0 {
		return f.Path + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text)
}

// A File is one Go file, parsed with its comments.
type File struct {
	Path   string
	Dir    string // folder from the root; "." for the root
	Test   bool   // its name ends in _test.go
	Source []byte
	Syntax *ast.File
	Lines  int
}

// A Tree is all that the rules look at.
type Tree struct {
	Set      *token.FileSet
	Go       []*File
	Markdown map[string][]byte
	Makefile []byte
	Root     []string        // names at the top, without what .gitignore names
	Paths    map[string]bool // every file and folder
	Broken   []Finding       // files that do not parse
}

// Load reads a tree. Folders named testdata and those that .gitignore names are left
// out, as the go command leaves them out.
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{Set: token.NewFileSet(), Markdown: map[string][]byte{}, Paths: map[string]bool{}}
	ignored, err := readIgnored(root)
	if err != nil {
		return nil, err
	}
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if name == ".git" || ignored.match(name, d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		t.Paths[name] = true
		if !strings.Contains(name, "/") {
			t.Root = append(t.Root, name)
		}
		return t.read(root, name, d)
	})
	return t, err
}

func (t *Tree) read(root fs.FS, name string, d fs.DirEntry) error {
	if d.IsDir() {
		return nil
	}
	inTestdata := slices.Contains(strings.Split(path.Dir(name), "/"), "testdata")
	isGo, isMarkdown := strings.HasSuffix(name, ".go"), strings.HasSuffix(name, ".md")
	if inTestdata || !isGo && !isMarkdown && name != "Makefile" {
		return nil
	}
	source, err := fs.ReadFile(root, name)
	switch {
	case err != nil:
		return err
	case isMarkdown:
		t.Markdown[name] = source
	case isGo:
		t.parse(name, source)
	default:
		t.Makefile = source
	}
	return nil
}

func (t *Tree) parse(name string, source []byte) {
	syntax, err := parser.ParseFile(t.Set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Broken = append(t.Broken, Finding{Path: name, Text: "does not parse: " + err.Error()})
		return
	}
	t.Go = append(t.Go, &File{Path: name, Dir: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"),
		Source: source, Syntax: syntax, Lines: countLines(source)})
}

func countLines(source []byte) int {
	n := bytes.Count(source, []byte{'\n'})
	if len(source) > 0 && source[len(source)-1] != '\n' {
		n++
	}
	return n
}

// at makes a finding about a place in a Go file.
func (t *Tree) at(f *File, pos token.Pos, format string, args ...any) Finding {
	return Finding{Path: f.Path, Line: t.Set.Position(pos).Line, Text: fmt.Sprintf(format, args...)}
}

func (t *Tree) line(pos token.Pos) int { return t.Set.Position(pos).Line }

// Imports lists the import paths of a file with where they stand.
func (f *File) Imports(fn func(importPath string, pos token.Pos)) {
	for _, spec := range f.Syntax.Imports {
		fn(strings.Trim(spec.Path.Value, `"`), spec.Pos())
	}
}

// External reports whether a test file is in a package of its own (package x_test).
func (f *File) External() bool { return f.Test && strings.HasSuffix(f.Syntax.Name.Name, "_test") }

// ignored is the part of .gitignore that the project uses: /name/ at the root, *.ext anywhere.
type ignored struct{ folders, patterns []string }

func readIgnored(root fs.FS) (ignored, error) {
	var set ignored
	source, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		return set, nil // a tree without one ignores nothing
	}
	for line := range strings.Lines(string(source)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "/"):
			set.folders = append(set.folders, strings.Trim(line, "/"))
		default:
			if _, err := path.Match(line, ""); err != nil {
				return set, fmt.Errorf("lint: .gitignore: %s: %w", line, err)
			}
			set.patterns = append(set.patterns, strings.TrimSuffix(line, "/"))
		}
	}
	return set, nil
}

func (s ignored) match(name, base string) bool {
	if slices.Contains(s.folders, name) {
		return true
	}
	for _, pattern := range s.patterns {
		if ok, _ := path.Match(pattern, base); ok {
			return true
		}
	}
	return false
}
