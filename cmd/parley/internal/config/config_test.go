package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parley.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func setting(t *testing.T, r *Result, name string) Setting {
	t.Helper()
	for _, s := range r.Settings {
		if s.Key.Name == name {
			return s
		}
	}
	t.Fatalf("no setting %s", name)
	return Setting{}
}

func TestEveryDefaultIsAllowed(t *testing.T) {
	for i := range Keys {
		if err := Keys[i].Check(Keys[i].Default); err != nil {
			t.Errorf("%s: %v", Keys[i].Name, err)
		}
	}
}

func TestNothingSetGivesTheDefaults(t *testing.T) {
	r, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Config != Default() {
		t.Errorf("%+v is not %+v", r.Config, Default())
	}
	if c := r.Config; c.Data != "./data" || c.Listen != "127.0.0.1:7070" || c.Admin != "127.0.0.1:7071" || c.LogLevel != slog.LevelInfo {
		t.Errorf("%+v", c)
	}
}

func TestEachSourceGoesBeforeTheNext(t *testing.T) {
	file := writeFile(t, "shards: 2\nloops: 2\nlisten: 127.0.0.1:2\nticket_lifetime: 2h\n")
	r, err := Load(Sources{
		File:    file,
		Environ: []string{"PARLEY_LOOPS=3", "PARLEY_LISTEN=127.0.0.1:3", "HOME=/", "PARLEY_TOKEN=x"},
		Flags:   map[string]string{"listen": "127.0.0.1:4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{
		"connections_max": {"0", "default"},
		"shards":          {"2", file + ":1"},
		"loops":           {"3", "PARLEY_LOOPS"},
		"listen":          {"127.0.0.1:4", "--listen"},
		"ticket_lifetime": {"2h", file + ":4"},
	} {
		if s := setting(t, r, name); s.Value != want[0] || s.Origin != want[1] {
			t.Errorf("%s is %q from %q, want %q from %q", name, s.Value, s.Origin, want[0], want[1])
		}
	}
	if c := r.Config; c.Shards != 2 || c.Loops != 3 || c.Listen != "127.0.0.1:4" || c.TicketLifetime != 2*time.Hour {
		t.Errorf("%+v", c)
	}
	if len(r.Warnings) != 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
}

func TestTheVariableNamesTheFile(t *testing.T) {
	r, err := Load(Sources{Environ: []string{"PARLEY_CONFIG=" + writeFile(t, "shards: 3")}})
	if err != nil || r.Config.Shards != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatIsWrongNamesItsPlaceAndWhatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		name string
		yaml string
		want []string
	}{
		{"unknown key", "data: x\nlisten: 127.0.0.1:1\n\nshard: 4\n", []string{"parley.yaml:4", `unknown key "shard"`, `"shards"`}},
		{"unknown key, other separator", "ticket-lifetime: 4h\n", []string{"parley.yaml:1", `unknown key "ticket-lifetime"`, `"ticket_lifetime"`}},
		{"unknown key like no other", "zzzzzzzz: 4\n", []string{"parley.yaml:1", `unknown key "zzzzzzzz"`, "config default"}},
		{"two keys wrong", "lissten: x\nshards: 0\n", []string{"parley.yaml:1", `"listen"`, "parley.yaml:2", "shards must be a whole number from 1 to"}},
		{"key twice", "shards: 1\nshards: 2\n", []string{"parley.yaml:2", "shards", "already defined"}},
		{"not a mapping", "- shards\n", []string{"parley.yaml:1", "key: value"}},
		{"plain text", "hello\n", []string{"parley.yaml:1", "key: value"}},
		{"nested", "listen:\n  host: x\n", []string{"parley.yaml:1", "listen must have one plain value"}},
		{"list", "listen: [a, b]\n", []string{"parley.yaml:1", "listen must have one plain value"}},
		{"null", "listen:\n", []string{"parley.yaml:1", "listen must have one plain value"}},
		{"two documents", "shards: 1\n---\nshards: 2\n", []string{"parley.yaml:3", "one document"}},
		{"bad syntax", "shards: 1\n  loops: : 2\n", []string{"parley.yaml:"}},
		{"duration without unit", "ticket_lifetime: 30\n", []string{"parley.yaml:1", "ticket_lifetime must be a time from 1s to 720h with its unit"}},
		{"duration too long", "drain_spread: 11m\n", []string{"0s to 10m"}},
		{"size with a decimal unit", "buffer_bytes_max: 64MB\n", []string{"buffer_bytes_max must be a size from 1MiB to 16GiB"}},
		{"size beyond an integer", "disk_reserve_bytes: 99999999999TiB\n", []string{"disk_reserve_bytes must be a size"}},
		{"negative number", "loops: -1\n", []string{"loops must be a whole number from 0 to"}},
		{"no port", "listen: 127.0.0.1\n", []string{"listen must be a host and a port"}},
		{"port too large", "listen: 127.0.0.1:70000\n", []string{"port of 0 to 65535"}},
		{"admin in the open", "admin: 0.0.0.0:7071\n", []string{"admin must be a loopback address"}},
		{"log format", "log_format: xml\n", []string{"log_format must be one of auto, text, json"}},
		{"log level", "log_level: loud\n", []string{"log_level must be one of debug, info, warn, error"}},
		{"empty data", `data: ""`, []string{"data must not be empty"}},
	} {
		r, err := Load(Sources{File: writeFile(t, c.yaml)})
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, r.Config)
			continue
		}
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: not an ErrConfig: %v", c.name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
}

func TestWrongVariablesAndFlagsAreNamed(t *testing.T) {
	_, err := Load(Sources{Environ: []string{"PARLEY_SHARDS=many"}, Flags: map[string]string{"loops": "none"}})
	for _, want := range []string{"PARLEY_SHARDS: shards must be", "--loops: loops must be"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestAMisspeltVariableIsAWarningAndAForeignOneIsNot(t *testing.T) {
	// Kubernetes sets the second and third for a service that is called parley.
	r, err := Load(Sources{Environ: []string{"PARLEY_LISTN=127.0.0.1:1", "PARLEY_PORT=tcp://10.0.0.1:7070", "PARLEY_SERVICE_HOST=10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "PARLEY_LISTEN?") {
		t.Errorf("warnings: %q", r.Warnings)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none.yaml"), t.TempDir()} {
		if _, err := Load(Sources{File: path}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestQuotesAndCommentsAndAnEmptyFileAreFine(t *testing.T) {
	r, err := Load(Sources{File: writeFile(t, "# a comment\ndata: \"/var/lib/parley\" # another\nlisten: '[::1]:7070'\nadmin: off\n")})
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Config; c.Data != "/var/lib/parley" || c.Listen != "[::1]:7070" || c.Admin != "" {
		t.Errorf("%+v", c)
	}
	for _, text := range []string{"", "\n", "# nothing\n", "---\n"} {
		if r, err := Load(Sources{File: writeFile(t, text)}); err != nil || r.Config != Default() {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheDefaultFileDocumentsEveryKeyAndSetsTheDefaults(t *testing.T) {
	var b strings.Builder
	if err := WriteDefault(&b); err != nil {
		t.Fatal(err)
	}
	// Uncommented, each line must be accepted, and change nothing.
	text := b.String()
	for i := range Keys {
		line := "#" + Keys[i].Name + ": "
		if !strings.Contains(text, "\n"+line) {
			t.Fatalf("%s is not in the default file", Keys[i].Name)
		}
		text = strings.Replace(text, "\n"+line, "\n"+line[1:], 1)
	}
	r, err := Load(Sources{File: writeFile(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Config != Default() {
		t.Errorf("%+v is not %+v", r.Config, Default())
	}
	for _, s := range r.Settings {
		if s.Origin == "default" {
			t.Errorf("%s was not read from the file", s.Key.Name)
		}
	}
}

func TestSizesAreReadInTheUnitsThatTheyAreWrittenIn(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "17B": 17, "1KiB": 1024, "64MiB": 64 << 20, "3GiB": 3 << 30, "1TiB": 1 << 40} {
		if n, ok := parseSize(text); !ok || n != want {
			t.Errorf("%q is %d, %v", text, n, ok)
		}
	}
	for _, n := range []int64{0, 1, 1000, 1024, 1536, 64 << 20, 5 << 40} {
		if back, ok := parseSize(size(n)); !ok || back != n {
			t.Errorf("%d is written %q and read %d", n, size(n), back)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, s := range []string{"data: x", "a: {b: c}", "? x\n: y", "&a shards: *a", "!!int shards: 1", "<<: x", "shards: |\n 3", "\x00", "---\n...\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Result{}
		for i := range Keys {
			r.Settings = append(r.Settings, Setting{Key: &Keys[i], Value: Keys[i].Default, Origin: "default"})
		}
		for _, err := range r.parseFile("f", b) {
			if err == nil {
				t.Fatal("a nil error")
			}
		}
	})
}
