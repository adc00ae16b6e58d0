package lint

import "go/ast"

// Limits of size, in lines. A function is counted from its first line to its closing
// brace; a file, whole.
const (
	FunctionLinesMax = 70
	FileLinesMax     = 600
)

func checkSizes(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if f.Lines > FileLinesMax {
			findings = append(findings, Finding{Path: f.Path, Line: f.Lines, Text: sizeText("file", f.Lines, FileLinesMax)})
		}
		for _, decl := range f.Syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := t.line(fn.End()) - t.line(fn.Pos()) + 1
			if f.Test {
				n -= t.tableLines(fn)
			}
			if n > FunctionLinesMax {
				findings = append(findings, t.at(f, fn.Pos(), "%s", sizeText(fn.Name.Name, n, FunctionLinesMax)))
			}
		}
	}
	return findings
}

func sizeText(what string, n, limit int) string {
	return what + " has " + itoa(n) + " lines, want at most " + itoa(limit) + ": split it by what its parts do"
}

// tableLines counts the lines within the outermost slice and map literals of a test:
// its table of cases is data, of which only the first line counts as code.
func (t *Tree) tableLines(fn *ast.FuncDecl) int {
	n := 0
	ast.Inspect(fn.Body, func(node ast.Node) bool {
		lit, ok := node.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch lit.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			n += t.line(lit.End()) - t.line(lit.Pos())
			return false
		}
		return true
	})
	return n
}
