package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firn-run/firn/internal/proving"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
)

func newExtension() *cobra.Command {
	cmd := &cobra.Command{Use: "extension", Short: "Develop Lambda extensions"}
	cmd.AddCommand(newExtensionTest())
	return cmd
}

// extensionTestFlags are the flags of `firn extension test`.
type extensionTestFlags struct {
	cfg     proving.Config
	network string
	output  string
	log     bool
}

func newExtensionTest() *cobra.Command {
	f := &extensionTestFlags{}
	cmd := &cobra.Command{
		Use:   "test PATH",
		Short: "Run an extension under a scripted lifecycle and say what it did",
		Long: "Run an extension beside a scripted function in a firn of its own: init, invocations and shutdown, a timeout, a\n" +
			"crash, a slow listener, a refusing listener, a late subscription. The report says what the extension did right, what\n" +
			"it cost, and what Lambda would refuse. PATH is an executable file, a folder with extensions/ in it, or a layer's .zip.\n" +
			"The exit status is 0 when nothing is wrong. No running firn is needed.",
		Example: "  firn extension test ./my-extension\n  firn extension test layer.zip --env API_KEY=test --network internet --log",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.cfg.Invocations, "invocations", 5, "invocations of each ordinary scenario")
	flags.IntVar(&f.cfg.MemoryMB, "memory", 512, "memory size of the functions in MB")
	flags.StringToStringVar(&f.cfg.Variables, "env", nil, "environment variables of the function, KEY=VALUE")
	flags.StringVar(&f.cfg.Sandbox, "sandbox", server.DefaultSandbox(), "linux: isolated; process: plain child processes")
	flags.StringVar(&f.network, "network", string(sandbox.NetworkNone), "outbound network: none or internet")
	flags.StringVar(&f.output, "output", "text", "text or json")
	flags.BoolVar(&f.log, "log", false, "show all that happens on standard error")
	return cmd
}

func (f *extensionTestFlags) run(cmd *cobra.Command, path string) error {
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("unknown output %q: choose text or json", f.output)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f.cfg.Path, f.cfg.Program, f.cfg.Network = path, program, sandbox.Network(f.network)
	f.cfg.Logger = newLogger(cmd.ErrOrStderr(), telemetry.Plain)
	f.cfg.Progress = func(scenario string) { fmt.Fprintf(cmd.ErrOrStderr(), "running: %s\n", scenario) }
	if f.log {
		live := telemetry.NewLive(cmd.ErrOrStderr(), telemetry.Plain)
		defer live.Close()
		f.cfg.Log = live
	}
	report, err := proving.Run(cmd.Context(), f.cfg)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		err = json.NewEncoder(out).Encode(report)
	} else {
		file, isFile := out.(*os.File)
		colour := isFile && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
		err = report.Write(out, colour)
	}
	if err != nil {
		return err
	}
	if !report.OK() {
		return errSilent
	}
	return nil
}

// asRuntime runs the function of an extension test, which is this very
// program in the place of a bootstrap. It says whether it did, and the status.
func asRuntime(args []string) (status int, was bool) {
	if !proving.IsRuntime(args) || !strings.HasSuffix(args[0], "bootstrap") {
		return 0, false
	}
	return proving.Runtime(os.Getenv("AWS_LAMBDA_RUNTIME_API"), os.Stdout), true
}
