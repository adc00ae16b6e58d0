package wire

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"testing"
)

// limitConstants reads every constant of limits.go, so that none can be left out of the
// document: names as the protocol writes them, values as uint64 or string.
func limitConstants(t testing.TB) map[string]any {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "limits.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := types.Info{Defs: map[*ast.Ident]types.Object{}}
	if _, err := new(types.Config).Check("wire", files, []*ast.File{file}, &info); err != nil {
		t.Fatal(err)
	}
	limits := map[string]any{}
	for name, object := range info.Defs {
		c, ok := object.(*types.Const)
		if !ok {
			continue
		}
		if c.Val().Kind() == constant.String {
			limits[snake(name.Name)] = constant.StringVal(c.Val())
			continue
		}
		n, exact := constant.Uint64Val(c.Val())
		if !exact {
			t.Fatalf("%s is no number", name.Name)
		}
		limits[snake(name.Name)] = n
	}
	return limits
}

func sortedCodes() []Code { return slices.Sorted(maps.Keys(codeNames)) }
