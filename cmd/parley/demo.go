package main

import "github.com/spf13/cobra"

func newDemo() *cobra.Command { return &cobra.Command{Use: "demo", Hidden: true} }

// shortPath is how a person would name a program: relative to here if it is below.
func shortPath(path string) string { return path }
