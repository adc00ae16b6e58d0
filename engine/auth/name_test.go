package auth

import (
	"errors"
	"strings"
	"testing"

	"parley/wire"
)

func TestNames(t *testing.T) {
	for _, good := range []string{"ada", "bob-2", "a", "ada lovelace", "søren", "李小龙", "o'brien", "u.v_w+x@y", "مريم", "🦊",
		strings.Repeat("x", wire.NameBytesMax)} {
		if err := CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " ", " ada", "ada ", "ada  l", "ada\n", "a\x00b", "a\tb", "\xff", "ada\xc3",
		"Ada",         // upper case
		"e\u0301mile", // not composed
		"ÉMILE",
		"a\u200bb",     // zero width space
		"a\u202eb",     // right-to-left override
		"a\u00a0b",     // no-break space
		"a\u3000b",     // ideographic space
		"a\ufeffb",     // byte order mark
		"\U000e0041",   // tag character
		"\ue000",       // private use
		"\U0010ffff",   // no character
		"a\u00adb",     // soft hyphen
		"ada\u2028bob", // line separator
		strings.Repeat("x", wire.NameBytesMax+1)} {
		if err := CheckName(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCanonicalNameMakesTheSameOfWhatReadsTheSame(t *testing.T) {
	for in, want := range map[string]string{"Ada": "ada", "ÉMILE": "émile", "e\u0301mile": "émile", "E\u0301MILE": "émile", "ada": "ada"} {
		if got := CanonicalName(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, s := range []string{"Ada", "İ", "ẞ", "ǅ", "Σ", "e\u0301\u0323", "\u1e9b\u0323", "가", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := CanonicalName(s)
		if twice := CanonicalName(once); twice != once {
			t.Fatalf("%q becomes %q, then %q", s, once, twice)
		}
		if CheckName(s) == nil && once != s {
			t.Fatalf("%q is accepted and becomes %q", s, once)
		}
	})
}
