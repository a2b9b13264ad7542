// Command firn is AWS Lambda on your own machines: it runs real functions with
// real extensions behind the real Lambda API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile from git.
var version = "development"

func main() {
	if status, was := asRuntime(os.Args); was {
		os.Exit(status)
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// errSilent ends the program with status 1 after the command has said why.
var errSilent = errors.New("")

// run is the program: it returns the exit status. The first SIGINT or SIGTERM
// ends the context; a further one ends the process by the default, unless the
// command takes it (firn up does, once).
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errSilent) {
			fmt.Fprintln(stderr, "firn:", err)
		}
		return 1
	}
	return 0
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "firn",
		Short:         "AWS Lambda on your own machines",
		Long:          "firn runs AWS Lambda functions with their extensions on this machine, isolated,\nbehind the real Lambda API: the AWS CLI, every SDK and every tool work against it.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(newUp(), newDev(), newDoctor(), newEnv(), newVersion(), newExtension(), newRuntime(), newLogs(), newTrace(), newAsync())
	return root
}
