//go:build linux

package chaos

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refused wants a server that ends by itself, with a code and one sentence that says each
// of want.
func (c *cluster) refused(what string, n *node, code int, want []string, joins ...string) {
	t := c.t
	t.Helper()
	before := len(n.endingsNow())
	if err := n.start(joins...); err != nil {
		t.Fatal(err)
	}
	defer n.kill()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(poll) {
		endings := n.endingsNow()
		if len(endings) == before {
			continue
		}
		text := endings[before]
		if !strings.HasPrefix(text, fmt.Sprintf("code %d: parley: ", code)) {
			t.Errorf("%s: want code %d and a sentence: %s", what, code, text)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: it does not say %q: %s", what, w, text)
			}
		}
		return
	}
	t.Errorf("%s: the server does not end; the last line of its log: %s", what, n.lastWords())
}

func (n *node) endingsNow() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.endings
}

// stranger is a node at a place, with nothing in its folder, that is in nobody's way.
func (c *cluster) stranger(p *place, name string) *node {
	return &node{name: name, place: p, dir: filepath.Join(c.dir, name), certs: c.nodes[0].certs, log: filepath.Join(c.dir, name+".log"),
		program: c.nodes[0].program, flags: serveFlags}
}

// commandRefused wants a command that is refused with one sentence that says each of want.
func (c *cluster) commandRefused(want []string, args ...string) {
	c.t.Helper()
	code, out := parley(c.t, c.nodes[0].program, args...)
	sentence := strings.TrimSpace(out)
	if code != exitRefused || !strings.HasPrefix(sentence, "parley: ") || strings.Contains(sentence, "\n") {
		c.t.Errorf("parley %s: code %d, want %d and one sentence: %s", strings.Join(args, " "), code, exitRefused, out)
	}
	for _, w := range want {
		if !strings.Contains(sentence, w) {
			c.t.Errorf("parley %s: it does not say %q: %s", strings.Join(args, " "), w, sentence)
		}
	}
}

// What must not be let in, or not be done, is refused with a sentence that says why and a
// code, and disturbs nobody. The cluster is formed once for all of these, in this order.
func TestBadInput(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three processes, and some that are refused: not in short mode")
	}
	c := newCluster(t, "a", "b", "c", "d")
	if err := c.form(3); err != nil {
		t.Fatal(err)
	}
	good, err := c.invite(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		run  func(c *cluster, t *testing.T, good []string)
	}{
		{"joins", badJoins},
		{"garbage on a link", garbage},
		{"two servers on one data folder", twoServers},
		{"a copied data folder", copiedFolder},
		{"another cluster's data folder", otherFolder},
		{"a removal that loses a majority", badRemoval},
		{"a removed node", removedNode},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.t = t
			test.run(c, t, good)
			if err := c.settled(); err != nil {
				t.Error(err)
			}
		})
	}
	c.t = t
}

// badJoins are those that have no right to be let in.
func badJoins(c *cluster, t *testing.T, good []string) {
	p := c.nodes[3].place
	old, err := c.command(nil, "node", "add", "--token", "--lifetime", "1s")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // the token ends
	c.refused("an old token", c.stranger(p, "late"), exitRefused, []string{"expired"}, good[0], good[1], good[2], strings.TrimSpace(old))
	c.refused("no token", c.stranger(p, "tokenless"), exitRefused, []string{"there is none"}, good[:2]...)
	c.refused("a changed token", c.stranger(p, "forger"), exitRefused, []string{"not of this cluster"}, good[0], good[1], good[2], strings.TrimSpace(good[3])+"x")
	namesake := c.stranger(p, "namesake")
	namesake.name = "a"
	c.refused("the name of another node", namesake, exitRefused, []string{"another node has this name"}, good...)
	wrong := c.stranger(p, "wrong")
	wrong.certs = filepath.Join(c.dir, "certs", "wrong")
	if code, out := parley(t, wrong.program, "node", "cert", "--ca", filepath.Join(c.dir, "foreign"), "--name", "a", "--out", wrong.certs, "--host", p.ip); code != 0 {
		t.Fatal(out)
	}
	c.refused("a certificate of another authority", wrong, exitUsage, []string{"bad certificate", "parley node cert --ca"}, good...)
	if c.network.cuts() {
		bare := c.stranger(p, "bare")
		bare.certs = ""
		c.refused("no certificate", bare, exitUsage, []string{"parley node cert"}, good...)
	}
}

// garbage is what a peer may send: from outside, and with a certificate of the cluster.
func garbage(c *cluster, t *testing.T, _ []string) {
	target := c.nodes[0]
	key, err := tls.LoadX509KeyPair(filepath.Join(target.certs, "node.pem"), filepath.Join(target.certs, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(target.certs, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	var identity struct {
		Cluster uint64 `json:"cluster_epoch"`
		Node    uint32 `json:"node"`
	}
	text, err := os.ReadFile(filepath.Join(target.dir, "node.json"))
	if err == nil {
		err = json.Unmarshal(text, &identity)
	}
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	config := &tls.Config{Certificates: []tls.Certificate{key}, RootCAs: pool, ServerName: target.place.ip}
	random := rand.New(rand.NewPCG(*seed, 1))
	for i := range 200 {
		conn, err := net.DialTimeout("tcp", target.place.links, patience)
		if err != nil {
			t.Fatal(err)
		}
		if i%4 > 0 { // with a certificate
			conn = tls.Client(conn, config)
		}
		content := make([]byte, random.IntN(1<<(4+i%12)))
		for j := range content {
			content[j] = byte(random.Uint32())
		}
		if i%4 > 1 { // after a beginning as a link of a new node has, or a transfer, or a join
			hello := append([]byte("PRLK\x01\x01"), byte(1+i/4%3), 0)
			hello = binary.LittleEndian.AppendUint64(hello, identity.Cluster)
			hello = binary.LittleEndian.AppendUint32(hello, 99)
			hello = binary.LittleEndian.AppendUint32(hello, identity.Node)
			content = append(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(hello, random.Uint64()), 1), content...)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(content) // it may be closed already
		_ = conn.Close()
	}
	if p := target.running(); p == nil || len(target.endingsNow()) > 0 {
		t.Errorf("it ended: %v", target.endingsNow())
	}
}

// twoServers are started on one data folder.
func twoServers(c *cluster, _ *testing.T, _ []string) {
	second := c.stranger(c.nodes[3].place, "second")
	second.dir = c.nodes[0].dir
	c.refused("a second server on a data folder", second, exitInUse, []string{"in use"})
}

// copiedFolder is of a node that lives: the copy must not speak for it.
func copiedFolder(c *cluster, t *testing.T, _ []string) {
	original := c.nodes[2]
	if err := original.stop(); err != nil {
		t.Fatal(err)
	}
	twin := c.stranger(c.nodes[3].place, "twin")
	twin.name = original.name
	if err := run("cp", "-a", original.dir, twin.dir); err != nil {
		t.Fatal(err)
	}
	if err := original.start(); err != nil {
		t.Fatal(err)
	}
	if err := original.awaitServing(); err != nil {
		t.Fatal(err)
	}
	if err := c.settled(); err != nil {
		t.Fatal(err)
	}
	c.refused("a copied data folder", twin, exitRefused, []string{"two processes must not have one number"})
	if endings := original.endingsNow(); len(endings) > 0 {
		t.Errorf("the original ended: %v", endings)
	}
}

// otherFolder is the data folder of another cluster's node.
func otherFolder(c *cluster, t *testing.T, good []string) {
	other := c.stranger(c.nodes[3].place, "other")
	if err := other.start(); err != nil {
		t.Fatal(err)
	}
	if err := other.awaitServing(); err != nil {
		t.Fatal(err)
	}
	if err := other.stop(); err != nil {
		t.Fatal(err)
	}
	c.refused("another cluster's data folder", other, exitRefused, []string{"another cluster"}, good...)
}

// badRemoval would leave shards without a majority.
func badRemoval(c *cluster, t *testing.T, _ []string) {
	c.commandRefused([]string{`no node "nobody"`}, "node", "remove", "nobody", "--data", c.nodes[0].dir)
	c.nodes[2].kill()
	c.commandRefused([]string{"a majority would be lost", "Bring back the nodes that are down", "parley node drain b"}, "node", "remove", "b", "--data", c.nodes[0].dir)
	if err := c.nodes[2].start(); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[2].awaitServing(); err != nil {
		t.Fatal(err)
	}
}

// removedNode comes back with the folder it had.
func removedNode(c *cluster, t *testing.T, _ []string) {
	removed := c.nodes[2]
	removed.kill()
	if _, err := c.command(removed, "node", "remove", removed.name); err != nil {
		t.Fatal(err)
	}
	c.refused("a removed node", removed, exitRefused, []string{"removed", "data directory is of no use any more"})
	if err := os.RemoveAll(removed.dir); err != nil {
		t.Fatal(err)
	}
	if err := c.join(removed); err != nil {
		t.Fatal(err)
	}
}
