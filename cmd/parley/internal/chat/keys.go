package chat

import (
	"bytes"
	"unicode/utf8"
)

// A keyKind is what a key does.
type keyKind uint8

const (
	keyRune keyKind = iota // write key.char
	keyEnter
	keyBackspace
	keyDelete
	keyLeft
	keyRight
	keyWordLeft
	keyWordRight
	keyHome
	keyEnd
	keyUp
	keyDown
	keyKillWord  // Ctrl-W: the word before the cursor
	keyKillStart // Ctrl-U: all before it
	keyKillEnd   // Ctrl-K: all behind it
	keyRepaint   // Ctrl-L
	keyEOF       // Ctrl-D
	keyInterrupt // Ctrl-C
	keyNone      // nothing that we know
)

type key struct {
	kind keyKind
	char rune
}

// controls are the keys that come as one byte.
var controls = map[byte]keyKind{
	0x01: keyHome, 0x02: keyLeft, 0x03: keyInterrupt, 0x04: keyEOF, 0x05: keyEnd, 0x06: keyRight, 0x08: keyBackspace,
	0x0a: keyEnter, 0x0b: keyKillEnd, 0x0c: keyRepaint, 0x0d: keyEnter, 0x0e: keyDown, 0x10: keyUp, 0x15: keyKillStart,
	0x17: keyKillWord, 0x7f: keyBackspace,
}

// sequences are the keys that come as ESC and these bytes (xterm, and what resembles it).
var sequences = map[string]keyKind{
	"[A": keyUp, "[B": keyDown, "[C": keyRight, "[D": keyLeft, "[H": keyHome, "[F": keyEnd,
	"OA": keyUp, "OB": keyDown, "OC": keyRight, "OD": keyLeft, "OH": keyHome, "OF": keyEnd,
	"[1~": keyHome, "[3~": keyDelete, "[4~": keyEnd, "[7~": keyHome, "[8~": keyEnd,
	"[1;5C": keyWordRight, "[1;5D": keyWordLeft, "[1;3C": keyWordRight, "[1;3D": keyWordLeft,
	"b": keyWordLeft, "f": keyWordRight, "\x7f": keyKillWord,
}

// Marks around what is pasted, after the terminal was asked for them.
const (
	pasteBegin = "[200~"
	pasteEnd   = "[201~"
)

// sequenceBytesMax bounds an escape sequence: no key has one half as long.
const sequenceBytesMax = 16

// A keyReader turns what a terminal sends into keys. What is cut by the end of a read is
// kept for the next one.
type keyReader struct {
	rest  []byte
	paste bool // between the marks a line end is a character
}

// read gives the keys in what was kept and b.
func (k *keyReader) read(b []byte) (keys []key) {
	k.rest = append(k.rest, b...)
	for len(k.rest) > 0 {
		next, n := k.next(k.rest)
		if n == 0 {
			break
		}
		k.rest = k.rest[n:]
		if next.kind != keyNone {
			keys = append(keys, next)
		}
	}
	k.rest = bytes.Clone(k.rest)
	return keys
}

// next is the first key of b and its length; length 0 asks for more.
func (k *keyReader) next(b []byte) (key, int) {
	if b[0] == 0x1b {
		return k.escape(b)
	}
	if k.paste && (b[0] == '\r' || b[0] == '\n') {
		switch {
		case b[0] == '\n':
			return key{keyRune, '\n'}, 1
		case len(b) == 1:
			return key{}, 0 // the mark of the end comes, at the least
		case b[1] == '\n':
			return key{keyRune, '\n'}, 2
		}
		return key{keyRune, '\n'}, 1
	}
	if kind, ok := controls[b[0]]; ok && !k.paste {
		return key{kind: kind}, 1
	}
	if !utf8.FullRune(b) {
		return key{}, 0
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 || r < ' ' || r == 0x7f {
		return key{kind: keyNone}, n
	}
	return key{keyRune, r}, n
}

func (k *keyReader) escape(b []byte) (key, int) {
	n := sequenceLength(b[1:])
	if n == 0 {
		return key{}, 0
	}
	sequence := string(b[1 : 1+n])
	switch sequence {
	case pasteBegin, pasteEnd:
		k.paste = sequence == pasteBegin
		return key{kind: keyNone}, 1 + n
	}
	if kind, ok := sequences[sequence]; ok {
		return key{kind: kind}, 1 + n
	}
	return key{kind: keyNone}, 1 + n
}

// sequenceLength is the length of what follows ESC; 0 asks for more. ESC [ and ESC O
// begin sequences that end with a letter or ~, any other byte stands alone.
func sequenceLength(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if b[0] != '[' && b[0] != 'O' {
		return 1
	}
	for i := 1; i < len(b); i++ {
		if b[i] >= 0x40 && b[i] <= 0x7e || i == sequenceBytesMax {
			return i + 1
		}
	}
	return 0
}
