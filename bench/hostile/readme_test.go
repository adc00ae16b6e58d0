package hostile

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A table that names what is not there, or leaves out what is, proves nothing.
func TestTheReadmeNamesEveryTest(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{"TestTheReadmeNamesEveryTest": true}
	for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(readme, -1) {
		named[string(name[1])] = true
	}
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, name := range names {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(code, -1) {
			there[string(test[1])] = true
			if !named[string(test[1])] {
				t.Errorf("%s of %s is not in the table", test[1], name)
			}
		}
	}
	for name := range named {
		if !there[name] {
			t.Errorf("the table has %s, which is not there", name)
		}
	}
}
