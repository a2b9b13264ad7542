package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/server"
)

func newRuntime() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "Bring managed runtimes (Python, Node.js, Java) to this machine",
		Long: "A managed runtime is the interpreter of a language with AWS's runtime interface client. firn keeps them in its data\n" +
			"directory; a running firn uses what is there, without a restart.",
	}
	dataDir := cmd.PersistentFlags().String("data", defaultDataDir(), "data directory of firn")
	open := func() (*runtimes.Store, error) {
		return runtimes.Open(server.RuntimesDir(*dataDir), "firn runtime build NAME --data "+*dataDir)
	}
	cmd.AddCommand(newRuntimeList(open), newRuntimeBuild(open), newRuntimePull(open), newRuntimeRemove(open))
	return cmd
}

// openRuntimes opens the store that the flags name.
type openRuntimes func() (*runtimes.Store, error)

func newRuntimeList(open openRuntimes) *cobra.Command {
	var output string
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the runtimes that are here, or with --all those that AWS has",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := open()
			if err != nil {
				return err
			}
			list, err := store.List()
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(append([]runtimes.Manifest{}, list...)) // [] rather than null
			case "text":
				return printRuntimes(cmd.OutOrStdout(), list, all)
			}
			return fmt.Errorf("unknown output %q: choose text or json", output)
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	cmd.Flags().BoolVar(&all, "all", false, "with all names of AWS that functions can still be created for")
	return cmd
}

func printRuntimes(out io.Writer, list []runtimes.Manifest, all bool) error {
	here := map[string]runtimes.Manifest{}
	for _, m := range list {
		here[m.Name] = m
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSUPPORT\tDIGEST\tSIZE\tMADE\tFROM")
	rows := 0
	for _, r := range runtimes.All() {
		m, ok := here[r.Name]
		switch {
		case ok:
			fmt.Fprintf(table, "%s\t%s\t%.12s\t%d MB\t%s\t%s\n", r.Name, r.Support, m.Digest, m.Bytes/firn.MiB,
				m.Made.Format(time.DateOnly), cameFrom(m))
			rows++
		case all && r.Managed() && r.Support != runtimes.Blocked:
			fmt.Fprintf(table, "%s\t%s\tnot here\n", r.Name, r.Support)
			rows++
		}
	}
	if rows == 0 {
		_, err := fmt.Fprintln(out, "No managed runtime is here yet. firn runtime list --all names them, firn runtime pull NAME or firn runtime build NAME brings one.")
		return err
	}
	return table.Flush()
}

// cameFrom says where a runtime is from.
func cameFrom(m runtimes.Manifest) string {
	if m.Whole {
		return m.Origin + " from " + m.Source
	}
	return m.Client + ", " + m.Interpreter
}

func newRuntimeBuild(open openRuntimes) *cobra.Command {
	var opt runtimes.Options
	cmd := &cobra.Command{
		Use:   "build NAME...",
		Short: "Put runtimes together from this machine's interpreters and AWS's clients",
		Long: "Put runtimes together: a copy of the interpreter that this machine has (for Node.js, else the one that npm has), and\n" +
			"the official runtime interface client, fetched by the language's own package manager (pip, npm, mvn). The result is\n" +
			"whole: the interpreter may change or go afterwards. Building again takes the newest there is.",
		Example: "  firn runtime build python3.13 nodejs22.x\n  firn runtime build java21 --interpreter /opt/jdk-21",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			if opt.Interpreter != "" && len(names) > 1 {
				return errors.New("--interpreter is for one runtime at a time")
			}
			store, err := open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			for _, name := range names {
				if err := buildRuntime(cmd, store, name, opt); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&opt.Interpreter, "interpreter", "", "program, or directory of a JDK, to copy (default: look for one)")
	cmd.Flags().BoolVar(&opt.NoSDK, "no-sdk", false, "leave out the AWS SDK that Python and Node.js functions find on AWS")
	return cmd
}

// buildRuntime builds one runtime behind a line that shows how far it is: one
// that is written over on a terminal, one for each step elsewhere.
func buildRuntime(cmd *cobra.Command, store *runtimes.Store, name string, opt runtimes.Options) error {
	var clear func()
	opt.Progress, clear = progressLine(cmd.ErrOrStderr(), name)
	m, err := store.Build(cmd.Context(), name, opt)
	clear()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is here: %s, %s, %d MB, digest %.12s\n", name, m.Interpreter, m.Client, m.Bytes/firn.MiB, m.Digest)
	return err
}

func newRuntimeRemove(open openRuntimes) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME...",
		Short: "Remove runtimes that no running firn uses",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) (err error) {
			store, err := open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			for _, name := range names {
				if err := store.Remove(cmd.Context(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
