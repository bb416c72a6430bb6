package main

import "github.com/spf13/cobra"

func newFmt() *cobra.Command { return &cobra.Command{Use: "fmt"} }
