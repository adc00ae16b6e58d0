package lint

import (
	"go/ast"
	"go/token"
	"strings"
)

// layers are the top folders with those that each may import besides itself.
var layers = map[string][]string{
	"wire":    {},
	"storage": {"wire"},
	"raft":    {"wire"}, // not storage: replication knows nothing of what it replicates
	"engine":  {"wire", "storage", "raft"},
	"bench":   {"wire", "storage", "raft", "engine"},
	"cmd":     {"wire", "storage", "raft", "engine", "bench"},
}

// within reports whether a folder or import path is the given one or lies below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

func anyWithin(p string, folders []string) bool {
	for _, folder := range folders {
		if within(p, folder) {
			return true
		}
	}
	return false
}

func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// eachImport visits the imports of every file.
func (t *Tree) eachImport(fn func(f *File, importPath string, pos token.Pos)) {
	for _, f := range t.Go {
		f.Imports(func(importPath string, pos token.Pos) { fn(f, importPath, pos) })
	}
}

func checkDirection(t *Tree) []Finding {
	var findings []Finding
	t.eachImport(func(f *File, importPath string, pos token.Pos) {
		target, ours := strings.CutPrefix(importPath, Module+"/")
		if !ours {
			return
		}
		from, to := top(f.Dir), top(target)
		if from == to || anyWithin(to, layers[from]) {
			return
		}
		// The examples of the client are tests of their own package against a real server.
		if f.External() && within(f.Dir, "wire/client") && to == "engine" {
			return
		}
		findings = append(findings, t.at(f, pos, "%s must not import %s", from, to))
	})
	return findings
}

// siblings are folders that do not import each other; engine/node.go ties them together.
var siblings = []string{"engine/auth", "engine/gateway", "engine/media", "engine/delivery", "engine/router"}

func checkSiblings(t *Tree) []Finding {
	var findings []Finding
	t.eachImport(func(f *File, importPath string, pos token.Pos) {
		target, ours := strings.CutPrefix(importPath, Module+"/")
		if !ours {
			return
		}
		for _, a := range siblings {
			for _, b := range siblings {
				if a != b && within(f.Dir, a) && within(target, b) {
					findings = append(findings, t.at(f, pos, "%s must not import %s: let engine hand it over", a, b))
				}
			}
		}
	})
	return findings
}

// A technology is a dependency with the only folders that may know it.
type technology struct {
	path    string   // import path or what it begins with
	folders []string // of code and tests
	tests   []string // of tests only
}

// technologies lists every dependency. The first whose path fits decides, so an exception stands
// before what it is taken from. Whoever adds one says here where it ends.
var technologies = []technology{
	{path: "github.com/panjf2000/gnet/v2", folders: []string{"engine/reactor"}},
	{path: "github.com/gobwas/ws", folders: []string{"engine/websocket", "wire/client", "bench"}},
	// The file system interface goes through all that keeps bytes on disk.
	{path: "github.com/cockroachdb/pebble/v2/vfs", folders: []string{"storage", "raft", "engine", "bench"}},
	{path: "github.com/cockroachdb/pebble/v2", folders: []string{"storage", "raft"}},
	{path: "github.com/hashicorp/raft", folders: []string{"raft"}},
	{path: "github.com/golang-jwt/jwt", folders: []string{"engine/auth"}},
	{path: "golang.org/x/crypto", folders: []string{"engine/auth"}},
	{path: "github.com/hashicorp/go-hclog", folders: []string{"raft"}},
	{path: "golang.org/x/text", folders: []string{"engine/auth", "cmd"}},
	{path: "github.com/prometheus", folders: []string{"engine"}},
	{path: "github.com/klauspost/compress", folders: []string{"wire/compress", "storage", "raft/link"}},
	{path: "github.com/goccy/go-yaml", folders: []string{"cmd", "engine/config"}},
	{path: "github.com/spf13", folders: []string{"cmd", "bench"}},
	{path: "golang.org/x/term", folders: []string{"cmd"}},
	{path: "golang.org/x/sys", folders: []string{"engine", "storage", "raft", "bench", "cmd"}},
	{path: "github.com/HdrHistogram", folders: []string{"bench"}},
	{path: "github.com/anishathalye/porcupine", folders: []string{"bench"}},
	{path: "pgregory.net/rapid", tests: everywhere},
	{path: "github.com/google/go-cmp", tests: everywhere},
	{path: "go.uber.org/goleak", tests: everywhere},
}

var everywhere = []string{"wire", "storage", "raft", "engine", "bench", "cmd"}

func checkTechnologies(t *Tree) []Finding {
	var findings []Finding
	t.eachImport(func(f *File, importPath string, pos token.Pos) {
		if !strings.Contains(top(importPath), ".") {
			return // the standard library, or ours
		}
		for _, tech := range technologies {
			if !within(importPath, tech.path) {
				continue
			}
			if !anyWithin(f.Dir, tech.folders) && (!f.Test || !anyWithin(f.Dir, tech.tests)) {
				findings = append(findings, t.at(f, pos, "%s must not know %s", f.Dir, importPath))
			}
			return
		}
		findings = append(findings, t.at(f, pos, "%s is not in the list of bench/lint/imports.go", importPath))
	})
	return findings
}

// pure are the folders whose code depends on its inputs alone: no clock, no chance, no machine. The
// packages below wire do I/O.
var pure = map[string]bool{"wire": true, "engine/shard": true, "engine/session": true}

// impure are files in those folders that act on the outside and decide nothing that is applied.
var impure = map[string]string{
	"engine/shard/courier.go": "delivers from one shard to another until it is acknowledged, with pauses",
}

var impureImports = []string{"math/rand", "math/rand/v2", "crypto/rand", "os", "net", "net/http", "syscall", "runtime"}

// impureCalls are the functions of time that read a clock or wait for one.
var impureCalls = map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "AfterFunc": true,
	"NewTimer": true, "NewTicker": true, "Tick": true}

func checkPurity(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if !pure[f.Dir] || f.Test || impure[f.Path] != "" {
			continue
		}
		f.Imports(func(importPath string, pos token.Pos) {
			for _, name := range impureImports {
				if importPath == name {
					findings = append(findings, t.at(f, pos, "%s must not import %s: let the caller pass it in", f.Dir, name))
				}
			}
		})
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && impureCalls[s.Sel.Name] && isName(s.X, "time") {
				findings = append(findings, t.at(f, s.Pos(), "%s must not call time.%s: let the caller pass the time in", f.Dir, s.Sel.Name))
			}
			return true
		})
	}
	return findings
}

func isName(x ast.Expr, name string) bool {
	ident, ok := x.(*ast.Ident)
	return ok && ident.Name == name
}
