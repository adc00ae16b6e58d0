package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"parley/raft/link"
)

func newNodeCert() *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "Make a node's certificate, and the cluster's certificate authority with the first",
		Long: "Makes the certificate and key with which a node proves to the others that it belongs to the cluster. Whoever has a\n" +
			"certificate of the cluster's authority may speak for a node: keep ca.key away from the nodes, and use the authority\n" +
			"for nothing else.\n\n" +
			"The first call makes the authority: ca.pem and ca.key in the directory of --ca, good for ten years. Each call writes\n" +
			"node.pem, node.key and a copy of ca.pem into the directory of --out, which is then copied to the node. Call it again\n" +
			"before a certificate ends: a running node reads the new files at its next connection, without a restart.",
		Example: "  parley node cert --ca ./authority --name a --out ./certs/a --host 10.0.0.1\n" +
			"  parley node cert --ca ./authority --name b --out ./certs/b --host 10.0.0.2",
		Args: noArguments,
	}
	f := c.Flags()
	ca := f.String("ca", "", "the authority's `DIR`; it is made if it is not there")
	name := f.String("name", "", "the node's `NAME`: letters, digits, dots, dashes and underscores")
	out := f.String("out", "", "the `DIR` for the node's files")
	hosts := f.StringArray("host", nil, "a name or address, `HOST`, that the node is reached by; may be given several times")
	lifetime := f.Duration("lifetime", link.NodeLifetime, "how long the certificate is good, `TIME` of at least 1h")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case *ca == "" || *name == "" || *out == "":
			return usageError("--ca, --name and --out are needed; see `" + c.CommandPath() + " --help`")
		case *lifetime < time.Hour:
			return usageError(fmt.Sprintf("--lifetime must be at least 1h, not %v", *lifetime))
		}
		return makeNodeCert(c, *ca, *name, *out, *hosts, *lifetime)
	}
	return c
}

func makeNodeCert(c *cobra.Command, ca, name, out string, hosts []string, lifetime time.Duration) error {
	if err := link.CheckNodeName(name); err != nil {
		return err // before an authority is made
	}
	authority, created, err := link.OpenAuthority(ca)
	if err != nil {
		return err
	}
	if created {
		fmt.Fprintf(c.OutOrStdout(), "%s: a new certificate authority; its key, %s, makes nodes: keep it secret\n",
			filepath.Join(ca, link.AuthorityFile), filepath.Join(ca, link.AuthorityKeyFile))
	}
	certificate, key, err := authority.Issue(name, hosts, lifetime)
	if err == nil {
		err = authority.WriteNode(out, name, certificate, key)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: node %s, good until %s\n", filepath.Join(out, link.NodeFile), name,
		authority.Until(lifetime).Format(time.DateOnly))
	return nil
}
