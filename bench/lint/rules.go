package lint

import (
	"cmp"
	"slices"
)

// A Rule is one thing that the whole tree must keep to.
type Rule struct {
	Name  string
	Why   string
	Check func(*Tree) []Finding
}

// Rules are all of them, in the order in which a report lists them.
var Rules = []Rule{
	{"parses", "a file that does not parse hides what is wrong with it", func(t *Tree) []Finding { return t.Broken }},
	{"layout", "the top level says what the project is made of, so it does not grow", checkLayout},
	{"makefile", "a Makefile that fits on a screen is read; `make` alone says what there is", checkMakefile},
	{"direction", "wire <- storage <- raft <- engine <- cmd: a lower package must be usable and testable alone", checkDirection},
	{"siblings", "features that import each other cannot be replaced or tested one by one", checkSiblings},
	{"technologies", "one package hides one dependency, so that it can be changed in one place", checkTechnologies},
	{"purity", "what is replicated or simulated must not read a clock, a random number or the machine", checkPurity},
	{"sizes", "a function fits on a screen (70 lines) and a file can be read in one go (600)", checkSizes},
	{"package docs", "one sentence tells what a package is for, before any of its names", checkPackageDocs},
	{"documented", "an exported name without a sentence makes the reader guess", checkDocumented},
	{"timed assertions", "a test that measures time fails on a busy machine; benchmarks show speed", checkTimedAssertions},
	{"panics", "a panic is for programmer errors only, and those go through invariant", checkPanics},
	{"sentinels", "an error names its package, so that a log line tells where it came from", checkSentinels},
	{"comments", "no banners, and no TODO that nobody will find: file an issue and name it", checkComments},
	{"links", "a document that points nowhere is wrong", checkLinks},
}

// A Report is what one rule found.
type Report struct {
	Rule     Rule
	Findings []Finding
}

// Check applies every rule, and gives those that found something.
func Check(t *Tree) []Report {
	var reports []Report
	for _, rule := range Rules {
		findings := rule.Check(t)
		if len(findings) == 0 {
			continue
		}
		slices.SortFunc(findings, func(a, b Finding) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
		})
		reports = append(reports, Report{rule, findings})
	}
	return reports
}
