package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ErrConfig is wrapped by everything that is wrong with a configuration.
var ErrConfig = errors.New("configuration")

const (
	variablePrefix = "PARLEY_"
	// FileVariable names the configuration file when no flag does.
	FileVariable = variablePrefix + "CONFIG"
	// fileBytesMax bounds the configuration file, in bytes: two hundred times the default one.
	fileBytesMax = 1 << 20
)

// OtherVariables are PARLEY_* variables that are not settings of a server: commands
// read them.
var OtherVariables = []string{FileVariable, "PARLEY_TOKEN", "PARLEY_TOKEN_FILE", "PARLEY_SERVER"}

// Sources are where settings come from.
type Sources struct {
	File    string            // path of the YAML file; empty: PARLEY_CONFIG, or none
	Environ []string          // as os.Environ gives it
	Flags   map[string]string // those that were given, by the key's name
}

// A Result is a configuration and how it came about.
type Result struct {
	Config   Config
	File     string    // that was read; empty: none
	Settings []Setting // one for each key, in order
	Warnings []string  // sentences: what looks wrong and does no harm
}

// A Setting is the value of a key and where it was set.
type Setting struct {
	Key    *Key
	Value  string
	Origin string // such as "parley.yaml:3", "PARLEY_SHARDS", "--shards" or "default"
}

// Load finds the value of each key. Everything that is wrong is in one error, a line
// each, so that it can be mended in one go.
func Load(s Sources) (*Result, error) {
	r := &Result{File: s.File}
	environ := environment(s.Environ)
	if r.File == "" {
		r.File = environ[FileVariable]
	}
	for i := range Keys {
		r.Settings = append(r.Settings, Setting{Key: &Keys[i], Value: Keys[i].Default, Origin: "default"})
	}
	var errs []error
	if r.File != "" {
		errs = append(errs, r.readFile(r.File)...)
	}
	r.readEnvironment(environ)
	for i := range r.Settings {
		if value, given := s.Flags[r.Settings[i].Key.Name]; given {
			r.Settings[i].Value, r.Settings[i].Origin = value, "--"+r.Settings[i].Key.Flag()
		}
	}
	for _, s := range r.Settings {
		if err := s.Key.parse(&r.Config, s.Value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s %w", s.Origin, s.Key.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return r, nil
}

func environment(environ []string) map[string]string {
	m := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, variablePrefix) {
			m[name] = value
		}
	}
	return m
}

// readEnvironment takes the PARLEY_* variables. An unknown one is only worth a warning:
// container platforms set some of their own for a service that is called parley.
func (r *Result) readEnvironment(environ map[string]string) {
	known := map[string]bool{}
	for _, name := range OtherVariables {
		known[name] = true
	}
	var names []string
	for i := range r.Settings {
		name := r.Settings[i].Key.Variable()
		known[name] = true
		names = append(names, name)
		if value, ok := environ[name]; ok {
			r.Settings[i].Value, r.Settings[i].Origin = value, name
		}
	}
	for name := range environ {
		if known[name] {
			continue
		}
		if guess := nearest(name, names); 3*distance(name, guess) <= len(name)-len(variablePrefix) && guess != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the variable %s is not a setting; did you mean %s?", name, guess))
		}
	}
}

// readFile takes the settings of a YAML file.
func (r *Result) readFile(path string) []error {
	info, err := os.Stat(path)
	if err != nil {
		return []error{fmt.Errorf("the configuration file cannot be read: %w", err)}
	}
	if info.Size() > fileBytesMax {
		return []error{fmt.Errorf("%s: has %d bytes, and a configuration file has at most %d", path, info.Size(), fileBytesMax)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return []error{fmt.Errorf("the configuration file cannot be read: %w", err)}
	}
	return r.parseFile(path, b)
}

func (r *Result) parseFile(path string, b []byte) []error {
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return []error{fmt.Errorf("%s:%d: %s", path, syntax.GetToken().Position.Line, syntax.GetMessage())}
		}
		return []error{fmt.Errorf("%s: %w", path, err)}
	}
	var errs []error
	for i, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		line := doc.Body.GetToken().Position.Line
		mapping, ok := doc.Body.(*ast.MappingNode)
		if !ok {
			return append(errs, fmt.Errorf("%s:%d: must be lines of the form `key: value`", path, line))
		}
		if i > 0 {
			return append(errs, fmt.Errorf("%s:%d: must be one document, without ---", path, line))
		}
		for _, entry := range mapping.Values {
			if err := r.setEntry(path, entry); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// setEntry takes one `key: value` of the file.
func (r *Result) setEntry(path string, entry *ast.MappingValueNode) error {
	origin := fmt.Sprintf("%s:%d", path, entry.Key.GetToken().Position.Line)
	name := entry.Key.GetToken().Value
	key := find(name)
	if key == nil {
		return fmt.Errorf("%s: unknown key %q%s", origin, name, suggestion(name))
	}
	value, ok := entry.Value.(ast.ScalarNode)
	if !ok || value.Type() == ast.NullType || value.Type() == ast.TagType || value.Type() == ast.AnchorType {
		return fmt.Errorf("%s: %s must have one plain value", origin, name)
	}
	for i := range r.Settings {
		if r.Settings[i].Key == key {
			r.Settings[i].Value, r.Settings[i].Origin = scalarText(value), origin
		}
	}
	return nil
}

// scalarText is a scalar as it stands in the file, without quotes: every setting is
// read from text, whichever source it comes from.
func scalarText(n ast.ScalarNode) string {
	if literal, ok := n.(*ast.LiteralNode); ok {
		return literal.Value.Value
	}
	return n.GetToken().Value
}

func suggestion(name string) string {
	var names []string
	for i := range Keys {
		names = append(names, Keys[i].Name)
	}
	if guess := nearest(name, names); guess != "" {
		return fmt.Sprintf("; did you mean %q?", guess)
	}
	return "; `parley config default` lists them all"
}
