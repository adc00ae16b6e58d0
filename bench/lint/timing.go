package lint

import (
	"go/ast"
	"go/token"
)

// checkTimedAssertions objects to tests that compare a measured duration. Waiting with a bound
// is fine: a loop's own condition, a deadline and a context are not looked at.
func checkTimedAssertions(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if !f.Test {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Body != nil {
				findings = append(findings, t.timedAssertions(f, fn)...)
			}
		}
	}
	return findings
}

func (t *Tree) timedAssertions(f *File, fn *ast.FuncDecl) []Finding {
	measured := map[string]bool{} // variables that hold what time.Since gave
	waits := map[ast.Expr]bool{}  // conditions of loops
	var findings []Finding
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ForStmt:
			waits[n.Cond] = true
		case *ast.AssignStmt:
			for i, value := range n.Rhs {
				if name, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.Ident); ok && measures(value, nil) {
					measured[name.Name] = true
				}
			}
		case *ast.BinaryExpr:
			if waits[n] {
				return false
			}
			switch n.Op {
			case token.LSS, token.GTR, token.LEQ, token.GEQ:
				if measures(n.X, measured) || measures(n.Y, measured) {
					findings = append(findings, t.at(f, n.Pos(), "%s compares a measured time: show it with a benchmark", fn.Name.Name))
				}
			}
		}
		return true
	})
	return findings
}

// measures reports whether an expression contains time.Since, time.Now().Sub, or a variable
// that holds what one of them gave.
func measures(x ast.Expr, measured map[string]bool) bool {
	found := false
	ast.Inspect(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			found = found || n.Sel.Name == "Since" && isName(n.X, "time") || n.Sel.Name == "Sub" && readsClock(n.X) ||
				measures(n.X, measured)
			return false // the name after the dot is a field or a method, not a variable
		case *ast.Ident:
			found = found || measured[n.Name]
		case *ast.FuncLit:
			return false
		}
		return !found
	})
	return found
}

func readsClock(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := call.Fun.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Now" && isName(s.X, "time")
}
