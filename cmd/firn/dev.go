package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firn-run/firn/internal/dev"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
)

// devFlags are the flags of `firn dev`.
type devFlags struct {
	cfg     dev.Config
	network string
	debug   string
}

func newDev() *cobra.Command {
	f := &devFlags{}
	cmd := &cobra.Command{
		Use:   "dev FOLDER",
		Short: "Run the function in a folder while you edit it",
		Long: "Run the function in a folder while you edit it: each save replaces its code, without an archive, and the next\n" +
			"invocation runs it. A firn of its own serves the function as long as this runs; the logs are shown live.\n\n" +
			"What the folder holds is found out: go.mod with a main package (built at each save), bootstrap, package.json or\n" +
			"index.js, lambda_function.py or app.py, lambda_function.rb, pom.xml (compiled at each save), .jar. Flags overrule it,\n" +
			"and --build runs a command of yours before each reload. A build that fails leaves the old code in place.\n\n" +
			"The function runs from a copy of the folder as it was at the last save: .git, .venv and what editors leave are not\n" +
			"in it; links out of the folder are followed. Changes in node_modules are taken when the package manager is through.",
		Example: "  firn dev ./my-function\n  firn dev . --event event.json          # each save sends the event and shows the answer\n" +
			"  firn dev . --build 'npx tsc' --code dist --handler index.handler\n  firn dev . --debug                     # attach your editor's debugger; time limits wait",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cfg.Name, "name", "", "name of the function (default: the folder's)")
	flags.StringVar(&f.cfg.Runtime, "runtime", "", "runtime, as python3.13 (default: by what the folder holds)")
	flags.StringVar(&f.cfg.Handler, "handler", "", "handler (default: by what the folder holds)")
	flags.StringToStringVar(&f.cfg.Variables, "env", nil, "environment variables of the function, KEY=VALUE")
	flags.StringArrayVar(&f.cfg.Layers, "layer", nil, "layer: a folder, a .zip archive, or an executable file that is an extension; may be repeated")
	flags.IntVar(&f.cfg.MemoryMB, "memory", 512, "memory size in MB")
	flags.DurationVar(&f.cfg.Timeout, "timeout", 30*time.Second, "timeout of the function, in whole seconds")
	flags.StringVar(&f.cfg.Build, "build", "", "shell command, run in the folder before each reload")
	flags.StringVar(&f.cfg.Code, "code", "", "folder with what an archive for Lambda would hold, relative to FOLDER (default: FOLDER itself)")
	flags.StringVar(&f.cfg.Event, "event", "", "file with an event that is sent after each reload")
	flags.StringVar(&f.debug, "debug", "", "open the language's debugger on 127.0.0.1, at PORT or its usual one")
	flags.Lookup("debug").NoOptDefVal = "default"
	flags.StringVar(&f.cfg.Server.Listen, "listen", "", "address of the API, HOST:PORT (default: "+devListen+", or any free port when that is taken)")
	flags.StringVar(&f.cfg.Server.DataDir, "data", "", "directory of what is kept, not that of a running firn (default: one for each function name below "+filepath.Join(defaultDataDir(), "dev")+")")
	flags.StringVar(&f.cfg.Server.Sandbox, "sandbox", server.DefaultSandbox(), "linux: isolated; process: plain child processes, no isolation at all")
	flags.StringVar(&f.network, "network", string(sandbox.NetworkInternet), "outbound network of the function: internet or none")
	return cmd
}

// devListen is where `firn dev` listens, so that clients need be told once.
const devListen = "127.0.0.1:4590"

func (f *devFlags) run(cmd *cobra.Command, folder string) error {
	cfg := &f.cfg
	cfg.Folder, cfg.Out = folder, cmd.OutOrStdout()
	var err error
	if cfg.Style, err = (&upFlags{logFormat: "text"}).style(cfg.Out); err != nil {
		return err
	}
	switch f.debug {
	case "":
	case "default":
		cfg.Debug = true
	default:
		if cfg.DebugPort, err = strconv.Atoi(f.debug); err != nil || cfg.DebugPort <= 0 || cfg.DebugPort > 65535 {
			return fmt.Errorf("--debug=%s: give a port, or nothing", f.debug)
		}
	}
	if cfg.Installed, cfg.Server.RuntimesOf, err = runtimesAtHand(cfg.Server.DataDir, defaultDataDir()); err != nil {
		return err
	}
	if cfg.Server.DataDir == "" {
		name, err := dev.FunctionName(folder, cfg.Name)
		if err != nil {
			return err
		}
		cfg.Server.DataDir = filepath.Join(defaultDataDir(), "dev", name)
	}
	if cfg.Server.Listen == "" {
		cfg.Server.Listen = freeListen()
	}
	cfg.Server.Network, cfg.Server.Version, cfg.Server.DrainTimeout = sandbox.Network(f.network), version, 5*time.Second
	cfg.Logger = newLogger(cmd.ErrOrStderr(), cfg.Style)
	cfg.Greet, cfg.Hurry = f.greet, hurryOn
	if cfg.Input, err = keyboard(cmd.InOrStdin()); err != nil {
		return err
	}
	if err := dev.Run(cmd.Context(), *cfg); err != nil {
		return err
	}
	fmt.Fprintln(cfg.Out, "firn dev has ended; everything it started is gone.")
	return nil
}

// runtimesAtHand lists the managed runtimes of the first data directory that
// has any; the last one is where they would be brought.
func runtimesAtHand(dirs ...string) (names []string, dataDir string, err error) {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		dataDir = dir
		if _, err := os.Stat(server.RuntimesDir(dir)); err != nil {
			continue
		}
		store, err := runtimes.Open(server.RuntimesDir(dir), "firn runtime build NAME --data "+dir)
		if err != nil {
			return nil, dir, err
		}
		list, err := store.List()
		for _, m := range list {
			names = append(names, m.Name)
		}
		if err = errors.Join(err, store.Close()); err != nil || len(names) > 0 {
			return names, dir, err
		}
	}
	return nil, dataDir, nil
}

// greet says how to reach the function.
func (f *devFlags) greet(out io.Writer, srv *server.Server) error {
	cfg := srv.Config()
	_, err := fmt.Fprintf(out, "firn %s serves at %s (sandbox %s). Point clients at it:\n\n%s\n", version, srv.Endpoint(), cfg.Sandbox,
		exports(srv.Endpoint(), cfg.Region, srv.Credentials()))
	if err == nil && cfg.Sandbox == "process" {
		_, err = fmt.Fprintln(out, "WARNING: the process sandbox isolates nothing. The function runs as you, with your files.")
	}
	return err
}

// freeListen is devListen, or any port when somebody has it.
func freeListen() string {
	l, err := net.Listen("tcp", devListen)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return devListen
}

// keyboard is the terminal, if there is one; a file of our own for it, since
// reading it can be ended.
func keyboard(in io.Reader) (io.ReadCloser, error) {
	file, isFile := in.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return nil, nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return nil, nil // a terminal that is not ours to open: no keyboard then
	}
	return tty, nil
}
