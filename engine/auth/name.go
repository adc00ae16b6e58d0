package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"parley/wire"
)

// ErrBadName is wrapped by every refusal of a name; the text around it says the rule.
var ErrBadName = errors.New("auth: not a good name")

// CheckName reports whether a name may be given to a user. A good name
//
//   - has 1 to wire.NameBytesMax bytes of UTF-8;
//   - is printable: letters, marks, digits, punctuation, symbols and the plain space; no
//     control or format characters, which could hide or turn around what others see;
//   - neither begins nor ends with a space, nor has two in a row;
//   - is in its canonical form: lower case, and composed (Unicode NFC). So two names that
//     read the same are the same bytes, names compare as bytes everywhere, and nobody is
//     "Ada" beside "ada". How a user is shown to others is for a profile to say.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrBadName)
	case len(name) > wire.NameBytesMax:
		return fmt.Errorf("%w: it has %d bytes, and %d are allowed", ErrBadName, len(name), wire.NameBytesMax)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: it is not UTF-8", ErrBadName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: it has the character %U, which cannot be seen", ErrBadName, r)
		}
	}
	if strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") || strings.Contains(name, "  ") {
		return fmt.Errorf("%w: it begins or ends with a space, or has two in a row", ErrBadName)
	}
	if c := CanonicalName(name); c != name {
		return fmt.Errorf("%w: write it in lower case: %q", ErrBadName, c)
	}
	return nil
}

// CanonicalName is the form of a name under which it is kept and looked up. It turns
// what a person typed into what CheckName accepts, as far as case and composition go.
func CanonicalName(name string) string {
	// Lower-casing may take a composed character apart, so it comes first.
	return norm.NFC.String(strings.ToLower(norm.NFC.String(name)))
}
