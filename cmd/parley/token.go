package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"parley/engine"
	"parley/engine/admin"
	"parley/engine/auth"
	"parley/wire"
)

func newToken() *cobra.Command {
	c := &cobra.Command{
		Use:   "token NAME",
		Short: "Print a signed token with which a client connects as a user",
		Long: "Prints a token for one device of a user. Who has it is that user until it ends: keep it secret, and short-lived.\n" +
			"Each device has a number. A second connection of a device replaces its first, so give every client its own.",
		Args: arguments(1, "one name"),
	}
	s := addSettings(c, "data", "shards")
	device := c.Flags().String("device", "", "the device's `ID`, a number from 1 to 2^48-1; a new random one if not given")
	lifetime := c.Flags().Duration("lifetime", engine.TokenLifetimeDefault, fmt.Sprintf("how long it is good, `TIME` from 1s to %v", auth.TokenLifetimeMax))
	asJSON := c.Flags().Bool("json", false, "print the token with user, device and end as JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := s.load()
		if err != nil {
			return err
		}
		var id wire.ID
		if *device != "" {
			if id, err = wire.ParseID(*device); err != nil {
				return usageError(fmt.Sprintf("--device must be a number from 1 to 2^48-1, not %q", *device))
			}
		}
		if *lifetime < time.Second || *lifetime > auth.TokenLifetimeMax {
			return usageError(fmt.Sprintf("--lifetime must be from 1s to %v, not %v", auth.TokenLifetimeMax, *lifetime))
		}
		return withOperator(c.Context(), &r.Config, func(o admin.Operator) error {
			t, err := o.Token(c.Context(), args[0], id, *lifetime)
			if err != nil {
				return err
			}
			return printToken(c, t, *asJSON)
		})
	}
	return c
}

func printToken(c *cobra.Command, t admin.Token, asJSON bool) error {
	if !asJSON {
		fmt.Fprintln(c.OutOrStdout(), t.Text)
		return nil
	}
	e := json.NewEncoder(c.OutOrStdout())
	return e.Encode(map[string]string{
		"token":   t.Text,
		"user":    t.User.String(),
		"device":  t.Device.String(),
		"expires": t.Expires.Time().Format(time.RFC3339),
	})
}
