package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"context"

	"github.com/spf13/cobra"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
)

// doctorTimeout bounds all probes together.
const doctorTimeout = 30 * time.Second

func newDoctor() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host offers to sandboxes, and how to mend what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorTimeout)
			defer cancel()
			report := server.Probe(ctx)
			switch output {
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(report)
			case "text":
				return printReport(cmd.OutOrStdout(), report)
			}
			return fmt.Errorf("unknown output %q: choose text or json", output)
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	return cmd
}

func printReport(out io.Writer, report server.HostReport) error {
	for _, f := range report.Features {
		fmt.Fprintf(out, "%s %-24s %s\n", sign(f), f.Name, f.Detail)
		if !f.OK && f.Fix != "" {
			fmt.Fprintf(out, "    %-24s to mend: %s\n", "", f.Fix)
		}
	}
	_, err := fmt.Fprintf(out, "\nfirn up would use the sandbox %q: %s\n", report.Sandbox, report.Why)
	return err
}

func sign(f sandbox.Feature) string {
	switch {
	case f.OK:
		return "✓"
	case f.Needed:
		return "✗"
	}
	return "–"
}
