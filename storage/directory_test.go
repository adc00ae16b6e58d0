package storage

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestMain makes the test binary hold a directory when asked to, as another process.
func TestMain(m *testing.M) {
	if path := os.Getenv("STORAGE_TEST_HOLD"); path != "" {
		hold(path)
		return
	}
	os.Exit(m.Run())
}

func hold(path string) {
	d, err := OpenDirectory(path, nil)
	if err != nil {
		os.Stdout.WriteString("failed: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
	_ = d.Close()
}

func TestDirectoryIsMadeAndOpenedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "data")
	for range 2 {
		d, err := OpenDirectory(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := d.Path("log", "x"), filepath.Join(path, "log", "x"); got != want {
			t.Errorf("path %s, want %s", got, want)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, want 0700: %v", info.Mode(), err)
	}
	content, err := os.ReadFile(filepath.Join(path, formatName))
	if err != nil || string(content) != "parley 1\n" {
		t.Errorf("FORMAT is %q: %v", content, err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	path := t.TempDir()
	d, err := OpenDirectory(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenDirectory(path, nil)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%v, want ErrInUse with this process", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "STORAGE_TEST_HOLD="+path)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = other.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the other process says %q: %v", line, err)
	}
	for range 2 { // asking must not release the other's lock
		_, err = OpenDirectory(path, nil)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(other.Process.Pid)) {
			t.Errorf("%v, want ErrInUse with process %d", err, other.Process.Pid)
		}
	}
}

func TestDirectoryInUseInMemory(t *testing.T) {
	fs := vfs.NewMem()
	d, err := OpenDirectory("/data", fs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDirectory("/data", fs); !errors.Is(err, ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  error
	}{
		"newer format":     {map[string]string{"FORMAT": "parley 2\n"}, ErrNewerFormat},
		"no line end":      {map[string]string{"FORMAT": "parley 1"}, ErrNotParley},
		"another's format": {map[string]string{"FORMAT": "other 1\n"}, ErrNotParley},
		"format 0":         {map[string]string{"FORMAT": "parley 0\n"}, ErrNotParley},
		"format 01":        {map[string]string{"FORMAT": "parley 01\n"}, ErrNotParley},
		"flipped bit":      {map[string]string{"FORMAT": "parmey 1\n"}, ErrNotParley},
		"somebody's files": {map[string]string{"notes.txt": "mine"}, ErrNotParley},
		"cut short":        {map[string]string{"LOCK": "", "FORMAT.new": "parl"}, nil},
		"fresh volume":     {map[string]string{"lost+found": ""}, nil},
		"this format":      {map[string]string{"FORMAT": "parley 1\n", "keys.json": "{}"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			for file, content := range test.files {
				if err := os.WriteFile(filepath.Join(path, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d, err := OpenDirectory(path, nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if err == nil {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name %s", err, path)
			}
			list, err := os.ReadDir(path)
			if err != nil || len(list) != len(test.files) {
				t.Errorf("a refused folder was changed: %v", list)
			}
		})
	}
}

func TestExistingDirectoryIsNotMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	if _, err := OpenExistingDirectory(path, nil); !errors.Is(err, ErrNoDirectory) {
		t.Errorf("%v, want ErrNoDirectory", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it was made")
	}
	d, err := OpenDirectory(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = OpenExistingDirectory(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFreeBytes(t *testing.T) {
	d, err := OpenDirectory(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if n, err := d.FreeBytes(); err != nil || n == 0 {
		t.Errorf("%d bytes are free, %v", n, err)
	}
}

// A file is whole and private under its name, on the operating system's file system and on another.
func TestDirectoryFiles(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"system": nil, "memory": vfs.NewMem()} {
		path := "/data"
		if fs == nil {
			path = t.TempDir()
		}
		d, err := OpenDirectory(path, fs)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := d.ReadFile("keys.json"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: reading a file that is not there: %v", name, err)
		}
		for _, content := range []string{"first, and longer", "second"} {
			if err := d.WriteFile("keys.json", []byte(content)); err != nil {
				t.Fatal(name, err)
			}
			if b, err := d.ReadFile("keys.json"); err != nil || string(b) != content {
				t.Errorf("%s: %q, %v; %q was written", name, b, err, content)
			}
		}
		if fs == nil {
			if info, err := os.Stat(d.Path("keys.json")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode of a file: %v, %v", info.Mode(), err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(name, err)
		}
	}
}
