package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetry/otlp"
)

// upFlags are the flags of `firn up`.
type upFlags struct {
	cfg       server.Config
	auth      string
	network   string
	logFormat string
	logMB     int64

	streamBurstMB, streamMBPerSecond float64

	otlpHeaders string
	quiet       bool
}

func newUp() *cobra.Command {
	f := &upFlags{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start firn: the Lambda API and everything behind it",
		Long: "Start firn in the foreground: the Lambda API and everything behind it, in one process.\n" +
			"It prints what to export so that clients find it, then shows live what runs.\n" +
			"SIGINT or SIGTERM end it: invocations in flight finish first, a second signal ends them at once.",
		Example: "  firn up\n  firn up --listen 127.0.0.1:9000 --data ./firn-data --auth none\n  eval \"$(firn env)\"   # in another terminal",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cfg.Listen, "listen", server.DefaultListen, "address of the API, HOST:PORT (port 0: any free one)")
	flags.StringVar(&f.cfg.DataDir, "data", defaultDataDir(), "directory of everything that must survive")
	flags.StringVar(&f.auth, "auth", string(server.AuthSigV4), "sigv4: verify signatures; none: serve everybody (loopback only)")
	flags.StringVar(&f.cfg.Sandbox, "sandbox", server.DefaultSandbox(), "linux: isolated; process: plain child processes, no isolation at all")
	flags.BoolVar(&f.cfg.PullRuntimes, "pull", false, "bring a managed runtime that is missing when a function is made for it, which is Pending meanwhile (default: refuse the function)")
	flags.StringVar(&f.cfg.RuntimeRegistry, "runtime-registry", "", "HOST[:PORT][/PREFIX] that --pull takes AWS's base images from (default "+runtimes.DefaultRegistry+")")
	flags.StringVar(&f.network, "network", string(sandbox.NetworkInternet), "outbound network of functions: internet or none")
	flags.StringVar(&f.cfg.Region, "region", server.DefaultRegion, "region in ARNs and signatures")
	flags.StringVar(&f.cfg.Account, "account", server.DefaultAccount, "account in ARNs, twelve digits")
	flags.IntVar(&f.cfg.PoolSize, "pool", server.DefaultPool, "prepared sandboxes kept ready (-1: none)")
	flags.IntVar(&f.cfg.Concurrency, "concurrency", 1000, "most concurrent invocations of the account")
	flags.DurationVar(&f.cfg.IdleTimeout, "idle-timeout", 10*time.Minute, "end an environment that was not used for so long")
	flags.DurationVar(&f.cfg.FreezeGrace, "freeze-grace", server.DefaultFreezeGrace, "freeze an idle environment after so long")
	flags.DurationVar(&f.cfg.DrainTimeout, "drain-timeout", 30*time.Second, "how long invocations in flight may take to finish at the end")
	flags.Int64Var(&f.logMB, "logs-max-mb", 2048, "most that the log store may hold on disk, in MB; the oldest goes first")
	flags.Float64Var(&f.streamBurstMB, "stream-burst-mb", firn.StreamBurstBytes/firn.MiB, "a streamed answer's first MB that go out as fast as they come")
	flags.Float64Var(&f.streamMBPerSecond, "stream-mbps", firn.StreamBytesPerSecond/firn.MiB, "bandwidth of what follows, in MB per second (0: no limit)")
	flags.StringVar(&f.cfg.URLDomain, "url-domain", "", "domain of your own for function URLs, NAME or https://NAME[:PORT]; *.NAME must lead here (default: *.lambda-url.REGION.localhost)")
	flags.StringVar(&f.cfg.MetricsListen, "metrics-listen", "", "address, HOST:PORT, that serves /metrics to everybody (default: the API's, to this host only)")
	flags.StringVar(&f.cfg.OTLPEndpoint, "otlp-endpoint", os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "base URL of an OpenTelemetry collector (OTLP over HTTP) for the spans of sampled traces")
	flags.StringVar(&f.otlpHeaders, "otlp-headers", os.Getenv("OTEL_EXPORTER_OTLP_HEADERS"), "headers for the collector, key=value,key=value")
	flags.StringToStringVar(&f.cfg.Endpoints, "endpoint", defaultEndpoints(os.Getenv), "base URL of a service that receives destinations and dead letters, SERVICE=URL (sqs, sns, events, s3)")
	flags.Float64Var(&f.cfg.AsyncPace, "async-pace", 1, "multiplies the pauses between attempts at asynchronous invocations")
	_ = flags.MarkHidden("async-pace") // fails only when there is no such flag
	flags.StringVar(&f.logFormat, "log-format", "text", "live view: text or json")
	flags.BoolVar(&f.quiet, "quiet", false, "no live view")
	return cmd
}

func (f *upFlags) run(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	style, err := f.style(out)
	if err != nil {
		return err
	}
	f.cfg.Auth = server.Auth(f.auth)
	f.cfg.Network = sandbox.Network(f.network)
	f.cfg.LogBytes, f.cfg.Version = f.logMB*firn.MiB, version
	if f.cfg.StreamBurst, f.cfg.StreamRate, err = f.bandwidth(); err != nil {
		return err
	}
	if err := checkEndpoints(f.cfg.Endpoints); err != nil {
		return err
	}
	if f.cfg.OTLPHeaders, err = otlp.ParseHeaders(f.otlpHeaders); err != nil {
		return fmt.Errorf("--otlp-headers: %w", err)
	}
	f.cfg.Logger = newLogger(cmd.ErrOrStderr(), style)
	if !f.quiet {
		live := telemetry.NewLive(out, style)
		defer live.Close()
		f.cfg.Sink = live
	}
	srv, err := server.New(f.cfg)
	if err != nil {
		return err
	}
	defer hurryOn(srv)()
	group, ctx := errgroup.WithContext(cmd.Context())
	group.Go(func() error { return srv.Run(ctx) })
	group.Go(func() error {
		select {
		case <-srv.Ready():
			return greet(out, style, srv)
		case <-ctx.Done():
			return nil
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if style != telemetry.JSON {
		fmt.Fprintln(out, "firn has ended; everything it started is gone.")
	}
	return nil
}

// bandwidth reads the flags of streamed answers, in bytes.
func (f *upFlags) bandwidth() (burst, rate int64, err error) {
	if f.streamBurstMB < 0 || f.streamMBPerSecond < 0 {
		return 0, 0, errors.New("--stream-burst-mb and --stream-mbps must not be negative")
	}
	if f.streamMBPerSecond == 0 {
		return 0, -1, nil
	}
	return max(1, int64(f.streamBurstMB*firn.MiB)), max(1, int64(f.streamMBPerSecond*firn.MiB)), nil
}

// hurryOn has the second SIGINT or SIGTERM end at once what still runs; a third
// one then kills firn by the default. The first one, which ends the context,
// is counted only. The returned function undoes it.
func hurryOn(srv *server.Server) (undo func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer signal.Stop(signals)
		for range 2 {
			select {
			case <-signals:
			case <-done:
				return
			}
		}
		srv.Hurry()
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (f *upFlags) style(out io.Writer) (telemetry.Style, error) {
	switch f.logFormat {
	case "json":
		return telemetry.JSON, nil
	case "text":
		if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" {
			return telemetry.Colour, nil
		}
		return telemetry.Plain, nil
	}
	return 0, fmt.Errorf("unknown log format %q: choose text or json", f.logFormat)
}

func newLogger(out io.Writer, style telemetry.Style) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelWarn}
	if style == telemetry.JSON {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// greet says in a few lines how to point a client at firn.
func greet(out io.Writer, style telemetry.Style, srv *server.Server) error {
	cfg := srv.Config()
	if style == telemetry.JSON { // without the credentials: logs travel
		return json.NewEncoder(out).Encode(map[string]string{
			"type": "firn.up", "version": version, "endpoint": srv.Endpoint(), "region": cfg.Region, "sandbox": cfg.Sandbox, "data": cfg.DataDir,
		})
	}
	_, err := fmt.Fprintf(out, "firn %s is up at %s (sandbox %s, data in %s). Point clients at it:\n\n%s\n",
		version, srv.Endpoint(), cfg.Sandbox, cfg.DataDir, exports(srv.Endpoint(), cfg.Region, srv.Credentials()))
	if err == nil && cfg.Sandbox == "process" {
		_, err = fmt.Fprintln(out, "WARNING: the process sandbox isolates nothing. Functions run as you, with your files.")
	}
	return err
}

// defaultDataDir follows the XDG base directories; root uses /var/lib.
func defaultDataDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/firn"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "firn")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "firn-data"
	}
	return filepath.Join(home, ".local", "share", "firn")
}
