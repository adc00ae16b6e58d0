package config

import (
	"fmt"
	"io"
	"strings"
)

// WriteDefault writes a configuration file with every key at its default, documented and
// commented out: what somebody removes the # from is what is set.
func WriteDefault(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Parley's configuration file. Every key may be left out; the values here are the defaults.\n")
	b.WriteString("# A flag (--listen) goes before a variable (PARLEY_LISTEN), and that before this file.\n")
	for i := range Keys {
		k := &Keys[i]
		b.WriteString("\n")
		for _, line := range wrap(k.Doc, 96) {
			b.WriteString("# " + line + "\n")
		}
		value := k.Default
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&b, "#%s: %s\n", k.Name, value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks a text at spaces into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
