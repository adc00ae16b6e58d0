package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/raft/link"
)

func TestNodeCertMakesFilesThatALinkTakes(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "authority")
	at := func(name string) string { return filepath.Join(dir, name) }
	cert := func(name string, more ...string) []string {
		return append([]string{"node", "cert", "--ca", ca, "--name", name, "--out", at(name)}, more...)
	}
	r := parley(t, "", cert("a", "--host", "127.0.0.1", "--host", "a.example")...)
	if r.code != 0 || r.err != "" || strings.Count(r.out, "\n") != 2 || !strings.Contains(r.out, filepath.Join(ca, "ca.key")) {
		t.Errorf("the first: %+v", r)
	}
	r = parley(t, "", cert("b")...)
	if r.code != 0 || strings.Count(r.out, "\n") != 1 || !strings.Contains(r.out, "node b, good until 2") {
		t.Errorf("the second: %+v", r)
	}
	for _, name := range []string{"a", "b"} {
		files := link.TLSFiles{
			Authority:   filepath.Join(at(name), link.AuthorityFile),
			Certificate: filepath.Join(at(name), link.NodeFile), Key: filepath.Join(at(name), link.NodeKeyFile),
		}
		if _, err := link.LoadTLS(files, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(at("a"), link.AuthorityKeyFile)); err == nil {
		t.Error("the authority's key is among a node's files")
	}
	refused(t, exitUsage, []string{`not of node "b"`, "another directory"}, "", "node", "cert", "--ca", ca, "--name", "b", "--out", at("a"))
}

func TestNodeCertExplainsWhatItRefuses(t *testing.T) {
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "out")
	refused(t, exitUsage, []string{"--ca, --name and --out are needed", "--help"}, "", "node", "cert", "--name", "a")
	refused(t, exitUsage, []string{`"a b"`, "letters, digits"}, "", "node", "cert", "--ca", ca, "--name", "a b", "--out", out)
	refused(t, exitUsage, []string{"--lifetime must be at least 1h"}, "", "node", "cert", "--ca", ca, "--name", "a", "--out", out, "--lifetime", "1m")
	refused(t, exitUsage, []string{`"certs"`, "cert"}, "", "node", "certs")
	if _, err := os.Stat(ca); err == nil {
		t.Error("an authority was made for a call that was refused")
	}
	if r := parley(t, "", "node", "cert", "--ca", ca, "--name", "a", "--out", out); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if err := os.Remove(filepath.Join(ca, "ca.key")); err != nil {
		t.Fatal(err)
	}
	refused(t, exitUsage, []string{"ca.pem is there but its key, ca.key, is not"}, "", "node", "cert", "--ca", ca, "--name", "a", "--out", out)
	if err := os.WriteFile(filepath.Join(ca, "ca.key"), []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, exitUsage, []string{"bad certificate authority", "ca.key"}, "", "node", "cert", "--ca", ca, "--name", "a", "--out", out)
}
