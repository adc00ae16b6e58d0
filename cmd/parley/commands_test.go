package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"parley/engine/auth"
	"parley/wire"
)

func TestVersionsAreApart(t *testing.T) {
	r := parley(t, "", "version")
	for _, want := range []string{"parley   ", "\nprotocol 1\n", "\nstorage  1\n", "\ngo       go1.", "\ncommit   "} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%q is not in %+v", want, r)
		}
	}
	var b build
	if r := parley(t, "", "version", "--json"); json.Unmarshal([]byte(r.out), &b) != nil || b.Protocol != wire.Version || b.Storage < 1 {
		t.Errorf("%+v: %+v", r, b)
	}
}

func TestWrongUsageSaysWhatIsRight(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"srve", []string{`"srve"`, `did you mean "serve"`}},
		{"zzzzz", []string{`"zzzzz"`, "parley --help"}},
		{"user ad", []string{`did you mean "add"`}},
		{"user add", []string{"takes one name", "--help"}},
		{"user add a b", []string{"takes one name"}},
		{"serve now", []string{`"now"`}},
		{"serve --prot 1", []string{"--prot", "parley serve --help"}},
		{"serve --shards 0", []string{"--shards", "whole number from 1 to"}},
		{"serve --admin 0.0.0.0:1", []string{"--admin", "loopback"}},
		{"token ada --device phone", []string{"--device must be a number"}},
		{"token ada --lifetime 9999h", []string{"--lifetime must be from 1s to"}},
		{"fsck", []string{"one data directory"}},
		{"chat --with bob", []string{"--as NAME", "--token-file"}},
		{"chat --with bob --until never", []string{"sent, delivered or read"}},
		{"chat --with bob --history -1", []string{"--history must be from 0"}},
	} {
		refused(t, exitUsage, c.want, "", strings.Fields(c.args)...)
	}
	for _, args := range []string{"", "user", "config", "help", "help serve", "exit-codes", "help exit-codes"} {
		if r := parley(t, "", strings.Fields(args)...); r.code != 0 || len(r.out) < 100 || r.err != "" {
			t.Errorf("parley %s: %+v", args, r)
		}
	}
}

func TestExitCodesAreDocumented(t *testing.T) {
	for _, code := range []int{exitOK, exitFailed, exitUsage, exitInUse, exitData, exitRefused, exitUnreachable, exitFatal, exitInterrupted} {
		if !strings.Contains(exitCodesText, "\n  "+strconv.Itoa(code)+" ") {
			t.Errorf("%d is not documented", code)
		}
	}
	for _, x := range explanations {
		if sentence, code := explain(x.err); code != x.code || strings.Contains(sentence, "%v") || strings.Contains(sentence, "\n") {
			t.Errorf("%v: %q, %d, want %d", x.err, sentence, code, x.code)
		}
	}
}

func TestConfigurationIsCheckedAndShown(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "parley.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := parley(t, "", "config", "default")
	if r.code != 0 || !strings.Contains(r.out, "#listen: 127.0.0.1:7070\n") {
		t.Fatalf("%+v", r)
	}
	write(strings.ReplaceAll(r.out, "\n#shards: 8", "\nshards: 3"))
	c := command(t, "config", "check", "--config", file, "--listen", "127.0.0.1:9")
	c.Env = append(c.Env, "PARLEY_LOOPS=2", "PARLEY_LOPS=2")
	r = finish(t, c)
	for _, want := range []string{"shards:", "3", file + ":", "loops:", "# PARLEY_LOOPS", "# --listen", "# default"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%q is not in %+v", want, r)
		}
	}
	if !strings.Contains(r.err, "PARLEY_LOPS is not a setting; did you mean PARLEY_LOOPS?") {
		t.Errorf("no warning: %+v", r)
	}
	write("data: " + dir + "\n\nlissten: 127.0.0.1:0\n")
	for _, args := range [][]string{{"config", "check"}, {"serve"}, {"user", "add", "ada"}, {"token", "ada"}, {"chat", "--as", "ada"}} {
		refused(t, exitUsage, []string{file + ":3", `unknown key "lissten"`, `"listen"`}, "", append(args, "--config", file)...)
	}
	refused(t, exitUsage, []string{"cannot be read", "none.yaml"}, "", "serve", "--config", filepath.Join(dir, "none.yaml"))
}

func TestUsersAndTokensWithAndWithoutAServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	check := func(name string) {
		t.Helper()
		r := parley(t, "correct horse", "user", "add", name, "--data", dir)
		id, err := wire.ParseID(strings.TrimSpace(r.out))
		if r.code != 0 || err != nil || r.err != "" {
			t.Fatalf("user add %s: %+v", name, r)
		}
		refused(t, exitRefused, []string{"name is taken"}, "correct horse", "user", "add", name, "--data", dir)
		refused(t, exitRefused, []string{"8 to 256 bytes"}, "short", "user", "add", "x"+name, "--data", dir)
		refused(t, exitRefused, []string{"lower case", `"x"`}, "correct horse", "user", "add", "X", "--data", dir)
		refused(t, exitRefused, []string{"no user of this name", "user add"}, "", "token", "nobody", "--data", dir)

		r = parley(t, "", "token", name, "--data", dir, "--device", "77", "--lifetime", "90s", "--json")
		var token map[string]string
		if err := json.Unmarshal([]byte(r.out), &token); err != nil || r.code != 0 {
			t.Fatalf("token: %+v", r)
		}
		if token["user"] != id.String() || token["device"] != "77" {
			t.Errorf("token of %v: %v", id, token)
		}
		// Nobody but the test may make keys here: they must be the server's.
		keys, err := auth.LoadOrCreateKeys(filepath.Join(dir, "keys.json"))
		if err != nil {
			t.Fatal(err)
		}
		plain := parley(t, "", "token", name, "--data", dir)
		for _, text := range []string{token["token"], strings.TrimSpace(plain.out)} {
			got, err := keys.VerifyToken([]byte(text), 1<<40)
			if err == nil {
				t.Errorf("%q is good for ever: %+v", text, got)
			}
			if got, err := keys.VerifyToken([]byte(text), nowWire()); err != nil || got.User != id {
				t.Errorf("%q: %+v, %v", text, got, err)
			}
		}
	}
	check("ada")
	s := serveOn(t, dir)
	check("bob")
	// What was made before is seen by the server, and the other way round.
	refused(t, exitRefused, []string{"name is taken"}, "correct horse", "user", "add", "ada", "--data", dir)
	if code := s.stop(t, 15); code != 0 {
		t.Errorf("the server ends with %d\n%s", code, s.log)
	}
	refused(t, exitRefused, []string{"name is taken"}, "correct horse", "user", "add", "bob", "--data", dir)
}

func TestADataDirectoryInUseWithoutASocketIsExplained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serveOn(t, dir)
	// As between the lock and the socket, when a server starts.
	if err := os.Remove(filepath.Join(dir, "admin.sock")); err != nil {
		t.Fatal(err)
	}
	refused(t, exitInUse, []string{dir, "try again in a moment"}, "correct horse", "user", "add", "ada", "--data", dir)
	refused(t, exitUnreachable, []string{"no server is running on this data directory", "parley serve"}, "", "chat", "--as", "ada", "--data", dir)
	refused(t, exitInUse, []string{"in use by another process", "--data"}, "", "fsck", dir)
	refused(t, exitInUse, []string{"in use by another process", "--data"}, "", "serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin", "off")
	s.kill()
}

func TestPortsInUseAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	s := serveOn(t, t.TempDir())
	for _, port := range []string{taken, s.address, s.admin} { // s.address is shared by the event loops of one process
		want := []string{"the port is in use by another process", "--listen or --admin", port}
		refused(t, exitInUse, want, "", "serve", "--data", t.TempDir(), "--listen", port, "--admin", "off")
		refused(t, exitInUse, want, "", "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--admin", port)
	}
	refused(t, exitUsage, []string{"does not have the address"}, "", "serve", "--data", t.TempDir(), "--listen", "192.0.2.1:0", "--admin", "off")
}
