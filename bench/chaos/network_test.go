//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A network is where nodes are: each in a network namespace of its own, all on one bridge,
// if this process may make them; on loopback otherwise, where nothing can be cut.
type network struct {
	t      testing.TB
	bridge string // empty: loopback
	host   string // the address of the clients
	places []*place
}

// A place is where one node runs: the same address for all of its lives.
type place struct {
	network   *network
	name      string
	namespace string
	ip        string
	clients   string // host:port of each of its listeners
	admin     string
	links     string
}

// prefix begins the names of namespaces and bridges; the process's number follows, so that
// what a killed run left is recognised.
const prefix = "pch"

// newNetwork makes places with these names.
func newNetwork(t testing.TB, names ...string) *network {
	t.Helper()
	n := &network{t: t}
	t.Cleanup(n.close)
	err := n.isolate(names)
	if err == nil {
		return n
	}
	t.Logf("no network namespaces, so nodes are on loopback and nothing is cut: %v", err)
	n.close()
	n.bridge, n.host, n.places = "", "127.0.0.1", nil
	for _, name := range names {
		n.places = append(n.places, &place{network: n, name: name, ip: n.host,
			clients: freeAddress(t), admin: freeAddress(t), links: freeAddress(t)})
	}
	return n
}

// errNotRoot reports a process that may not make namespaces.
var errNotRoot = errors.New("chaos: not root")

// isolate makes a bridge and a namespace for each name.
func (n *network) isolate(names []string) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	for _, tool := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	sweep()
	n.bridge = prefix + strconv.Itoa(os.Getpid())
	net3, err := freeSubnet()
	if err != nil {
		return err
	}
	n.host = net3 + ".1"
	steps := []string{
		"ip link add " + n.bridge + " type bridge",
		"ip addr add " + n.host + "/24 dev " + n.bridge,
		"ip link set " + n.bridge + " up",
	}
	for i, name := range names {
		ip := fmt.Sprintf("%s.%d", net3, 11+i)
		p := &place{network: n, name: name, namespace: n.bridge + name, ip: ip, clients: ip + ":7070", admin: "127.0.0.1:7071", links: ip + ":7072"}
		n.places = append(n.places, p)
		inside, outside := fmt.Sprintf("pci%d%s", os.Getpid(), name), fmt.Sprintf("pco%d%s", os.Getpid(), name)
		steps = append(steps,
			"ip netns add "+p.namespace,
			"ip link add "+outside+" type veth peer name "+inside,
			"ip link set "+inside+" netns "+p.namespace,
			"ip link set "+outside+" master "+n.bridge+" up",
			"ip -n "+p.namespace+" addr add "+ip+"/24 dev "+inside,
			"ip -n "+p.namespace+" link set "+inside+" up",
			"ip -n "+p.namespace+" link set lo up",
			"ip netns exec "+p.namespace+" iptables -w -L -n")
	}
	for _, step := range steps {
		if err := run(strings.Fields(step)...); err != nil {
			return err
		}
	}
	return nil
}

// run executes a command of the system.
func run(words ...string) error {
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freeSubnet finds the first three numbers of a private network that no interface has.
func freeSubnet() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	used := fmt.Sprint(addresses)
	for i := range 250 {
		if s := fmt.Sprintf("10.213.%d", (os.Getpid()+i)%250); !strings.Contains(used, s+".") {
			return s, nil
		}
	}
	return "", errors.New("chaos: no free network")
}

var leftName = regexp.MustCompile(`\b` + prefix + `(\d+)[a-z]*\b`)

// sweep removes what runs left that were killed.
func sweep() {
	namespaces, _ := exec.Command("ip", "netns", "list").Output()
	bridges, _ := exec.Command("ip", "-o", "link", "show", "type", "bridge").Output()
	for _, list := range []struct {
		names []byte
		kind  string
	}{{namespaces, "netns"}, {bridges, "link"}} {
		for _, m := range leftName.FindAllStringSubmatch(string(list.names), -1) {
			if _, err := os.Stat("/proc/" + m[1]); err != nil {
				_ = run("ip", list.kind, "del", m[0]) // another run may be sweeping too
			}
		}
	}
}

// close removes all that isolate made; the processes in it have ended.
func (n *network) close() {
	if n.bridge == "" {
		return
	}
	for _, p := range n.places {
		if err := run("ip", "netns", "del", p.namespace); err != nil && n.t.Failed() {
			n.t.Log(err)
		}
	}
	if err := run("ip", "link", "del", n.bridge); err != nil {
		n.t.Log(err)
	}
	n.bridge = ""
}

// cuts reports whether partitions are possible.
func (n *network) cuts() bool { return n.bridge != "" }

// words is a command as the place runs it.
func (p *place) words(words ...string) []string {
	if p.namespace == "" {
		return words
	}
	return append([]string{"ip", "netns", "exec", p.namespace}, words...)
}

// deafen drops what comes from an address, until as many calls of listen as of deafen.
func (p *place) deafen(ip string) error {
	return run(p.words("iptables", "-w", "-I", "INPUT", "-s", ip, "-j", "DROP")...)
}

// listen takes one deafen back.
func (p *place) listen(ip string) error {
	return run(p.words("iptables", "-w", "-D", "INPUT", "-s", ip, "-j", "DROP")...)
}

// mute drops what goes to an address, until as many calls of speak as of mute.
func (p *place) mute(ip string) error {
	return run(p.words("iptables", "-w", "-I", "OUTPUT", "-d", ip, "-j", "DROP")...)
}

// speak takes one mute back.
func (p *place) speak(ip string) error {
	return run(p.words("iptables", "-w", "-D", "OUTPUT", "-d", ip, "-j", "DROP")...)
}

// heal takes all of them back.
func (p *place) heal() error {
	if p.namespace == "" {
		return nil
	}
	return run(p.words("iptables", "-w", "-F")...)
}

// freeAddress picks a loopback address that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
