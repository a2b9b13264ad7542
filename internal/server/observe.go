package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/logs"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/metrics"
	"github.com/firn-run/firn/internal/state"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetry/exposition"
	"github.com/firn-run/firn/internal/telemetry/otlp"
	"github.com/firn-run/firn/internal/trace"
)

// observatory is everything that looks at environments: what they say goes to
// the operator's live view, to the log groups, to the metrics and to the
// traces.
type observatory struct {
	sink    telemetry.Sink
	lines   *logstore.Store
	ingest  *logs.Ingest
	metrics *metrics.Store
	traces  *trace.Store
	aside   aside
}

// flushTime is how long spans may take to leave at the end.
const flushTime = 5 * time.Second

// observe makes the sinks of environments.
func (s *Server) observe(dir *state.DataDir, undo *cleanup) (*observatory, error) {
	cfg := &s.cfg
	o := &observatory{}
	var err error
	if o.lines, err = logstore.Open(logstore.Config{
		Dir: filepath.Join(dir.Path(), "logs"), MaxBytes: cfg.LogBytes, Now: cfg.Now, Logger: cfg.Logger.With("component", "logstore"),
	}); err != nil {
		return nil, fmt.Errorf("open the logs: %w", err)
	}
	undo.add("log store", o.lines.Close)
	if o.metrics, err = metrics.New(metrics.Config{
		Dir: filepath.Join(dir.Path(), "metrics"), Now: cfg.Now, Logger: cfg.Logger.With("component", "metrics"),
		Region: cfg.Region, Account: cfg.Account, Reserved: o.aside.reserved,
	}); err != nil {
		return nil, fmt.Errorf("open the metrics: %w", err)
	}
	undo.add("metrics", o.metrics.Close)
	o.ingest = logs.NewIngest(logs.IngestConfig{
		Store: o.lines, Permit: cfg.Permit, Now: cfg.Now, Logger: cfg.Logger.With("component", "logs"),
	})
	undo.add("log lines", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		return o.ingest.Close(ctx)
	})
	tracing := trace.Config{Now: cfg.Now}
	if cfg.OTLPEndpoint != "" {
		exporter, err := otlp.New(otlp.Config{Endpoint: cfg.OTLPEndpoint, Headers: cfg.OTLPHeaders, Logger: cfg.Logger.With("component", "otlp")})
		if err != nil {
			return nil, err
		}
		undo.add("span export", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), flushTime)
			defer cancel()
			return exporter.Shutdown(ctx)
		})
		tracing.Exporter = exporter
	}
	o.traces = trace.New(tracing)
	o.sink = telemetry.Fanout{o.ingest, o.metrics.Sink(), o.traces}
	if cfg.Sink != nil {
		o.sink = telemetry.Fanout{cfg.Sink, o.sink}
	}
	return o, nil
}

// exposition is what Prometheus scrapes.
func (s *Server) exposition(o *observatory, n *node) http.Handler {
	return exposition.New(exposition.Config{
		Logger: s.cfg.Logger.With("component", "prometheus"), Invocations: o.metrics.Exposition,
		Environments: func() map[string]int {
			stats := n.fleet.Stats()
			return map[string]int{"busy": stats.InFlight, "idle": max(0, stats.Environments-stats.InFlight)}
		},
		LinesDropped: o.dropped,
		Version:      s.cfg.Version,
	}).Handler()
}

// dropped are the log lines that were lost, by reason.
func (o *observatory) dropped() map[string]uint64 {
	ingest, store := o.ingest.Stats(), o.lines.Stats()
	return map[string]uint64{
		"dropped": uint64(ingest.Dropped), "denied": uint64(ingest.Denied), "evicted": uint64(store.EvictedEvents),
	}
}

// scrapePath is where Prometheus looks.
const scrapePath = "/metrics"

// local serves only peers on this host: what is behind it asks for no
// signature, since Prometheus makes none.
func local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.Error(w, "metrics are served to this host only; give them an address of their own with --metrics-listen", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// functions is what subscription filters of log groups need of functions.
type functions struct {
	resolver invoke.Resolver
	events   *async.Engine
}

// LogGroup implements logs.Functions.
func (f functions) LogGroup(_ context.Context, arn string) (string, error) {
	ref, err := firn.ParseFunction(arn)
	if err != nil {
		return "", err
	}
	v, _, err := f.resolver.Resolve(ref)
	if err != nil {
		return "", err
	}
	return v.LogGroup, nil
}

// InvokeAsync implements logs.Functions.
func (f functions) InvokeAsync(ctx context.Context, arn string, payload []byte) error {
	ref, err := firn.ParseFunction(arn)
	if err != nil {
		return err
	}
	return f.events.Accept(ctx, &invoke.Request{Function: ref, RequestID: awswire.NewRequestID(), Payload: payload})
}

// serveScrapes serves the metrics at an address of their own.
func (s *Server) serveScrapes(ctx context.Context, listener net.Listener, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET "+scrapePath, handler)
	front := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	stop := context.AfterFunc(ctx, func() { front.Close() })
	defer stop()
	if err := front.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
