package lint

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// checkPackageDocs wants one comment a package, in the usual form.
func checkPackageDocs(t *Tree) []Finding {
	type folder struct {
		first *File
		docs  int
	}
	folders := map[string]*folder{}
	var findings []Finding
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		d := folders[f.Dir]
		if d == nil {
			d = &folder{first: f}
			folders[f.Dir] = d
		}
		if f.Syntax.Doc == nil {
			continue
		}
		d.docs++
		want := "Package " + f.Syntax.Name.Name + " "
		if f.Syntax.Name.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(f.Syntax.Doc.Text(), want) {
			findings = append(findings, t.at(f, f.Syntax.Doc.Pos(), "the comment of a package begins with %q", strings.TrimSpace(want)))
		}
	}
	for dir, d := range folders {
		if d.docs != 1 {
			findings = append(findings, Finding{Path: dir, Text: "package " + d.first.Syntax.Name.Name + " has " + itoa(d.docs) +
				" package comments, want one (in doc.go, or the file that is named like it)"})
		}
	}
	return findings
}

// checkDocumented wants a comment on each exported name: a sentence of its own for functions, methods
// and types; for a constant or variable the group's comment or one at the line's end will do.
func checkDocumented(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) {
					findings = append(findings, t.sentence(f, d.Doc, d.Pos(), d.Name.Name)...)
				}
			case *ast.GenDecl:
				findings = append(findings, t.documentedGroup(f, d)...)
			}
		}
	}
	return findings
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.IsExported()
		default:
			return false
		}
	}
}

func (t *Tree) documentedGroup(f *File, d *ast.GenDecl) []Finding {
	var findings []Finding
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if !s.Name.IsExported() {
				continue
			}
			doc := s.Doc
			if doc == nil && !d.Lparen.IsValid() {
				doc = d.Doc
			}
			findings = append(findings, t.sentence(f, doc, s.Pos(), s.Name.Name)...)
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					findings = append(findings, t.at(f, name.Pos(), "%s has no comment", name.Name))
				}
			}
		}
	}
	return findings
}

// sentence wants a comment that names what it describes, as go doc shows it.
func (t *Tree) sentence(f *File, doc *ast.CommentGroup, pos token.Pos, name string) []Finding {
	text := doc.Text()
	if text == "" {
		return []Finding{t.at(f, pos, "%s has no comment", name)}
	}
	for _, article := range []string{"A ", "An ", "The "} {
		if rest, ok := strings.CutPrefix(text, article); ok {
			text = rest
			break
		}
	}
	if word := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n,:;.'’", r) }); len(word) == 0 || word[0] != name {
		return []Finding{t.at(f, doc.Pos(), "the comment of %s begins with its name", name)}
	}
	return nil
}

var (
	// A banner begins like a comment, with a line of signs. What is indented as code is none, nor is a
	// box of bytes.
	banner    = regexp.MustCompile(`^(// ?|/\*\s*)[-=*#~_]{4,}`)
	reminder  = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	withIssue = regexp.MustCompile(`\b(TODO|FIXME)\(#\d+\)`)
)

// checkComments looks at the comments of Go files, the Makefile and the lines of documents.
func checkComments(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		for _, group := range f.Syntax.Comments {
			for _, c := range group.List {
				if banner.MatchString(c.Text) {
					findings = append(findings, t.at(f, c.Pos(), "a banner says nothing: use a file, a type or a sentence"))
				}
				if unfiled(c.Text) && !within(f.Dir, "bench/lint") {
					findings = append(findings, t.at(f, c.Pos(), "a reminder needs an issue: TODO(#n)"))
				}
			}
		}
	}
	texts := map[string][]byte{"Makefile": t.Makefile}
	for name, source := range t.Markdown {
		texts[name] = source
	}
	for name, source := range texts {
		number := 0
		for line := range strings.Lines(string(source)) {
			number++
			if unfiled(line) {
				findings = append(findings, Finding{Path: name, Line: number, Text: "a reminder needs an issue: TODO(#n)"})
			}
		}
	}
	return findings
}

func unfiled(text string) bool {
	return reminder.MatchString(withIssue.ReplaceAllString(text, ""))
}

// sentences are the folders whose errors are read by people as they are: what a command prints, and what
// crosses the operator's socket to one.
var sentences = []string{"cmd", "engine/admin"}

// checkSentinels wants exported errors to begin with the name of their package.
func checkSentinels(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if f.Test || anyWithin(f.Dir, sentences) {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				findings = append(findings, t.sentinels(f, spec.(*ast.ValueSpec))...)
			}
		}
	}
	return findings
}

func (t *Tree) sentinels(f *File, spec *ast.ValueSpec) []Finding {
	var findings []Finding
	for i, value := range spec.Values {
		call, ok := value.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 || i >= len(spec.Names) || !spec.Names[i].IsExported() {
			continue
		}
		s, ok := call.Fun.(*ast.SelectorExpr)
		lit, isLit := call.Args[0].(*ast.BasicLit)
		if !ok || !isLit || s.Sel.Name != "New" || !isName(s.X, "errors") {
			continue
		}
		if text, err := strconv.Unquote(lit.Value); err != nil || !strings.HasPrefix(text, f.Syntax.Name.Name+": ") {
			findings = append(findings, t.at(f, lit.Pos(), "the text of %s begins with %q", spec.Names[i].Name, f.Syntax.Name.Name+": "))
		}
	}
	return findings
}

// panickers are the functions that may panic, besides those whose name begins with Must.
var panickers = []string{"invariant", "unreachable"}

func checkPanics(t *Tree) []Finding {
	var findings []Finding
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		for _, decl := range f.Syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil || slices.Contains(panickers, strings.ToLower(fn.Name.Name)) || strings.HasPrefix(fn.Name.Name, "Must") {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if setsFatal(n) {
					return false
				}
				if call, ok := n.(*ast.CallExpr); ok && isName(call.Fun, "panic") {
					findings = append(findings, t.at(f, call.Pos(), "panic outside invariant: return an error, or assert through invariant"))
				}
				return true
			})
		}
	}
	return findings
}

// setsFatal recognises "x.Fatal = func...": the way to stop for who has named no other.
func setsFatal(n ast.Node) bool {
	assign, ok := n.(*ast.AssignStmt)
	if !ok || len(assign.Lhs) != 1 {
		return false
	}
	s, ok := assign.Lhs[0].(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Fatal"
}
