// Package otlp exports finished spans to an OpenTelemetry collector, with the
// OpenTelemetry SDK over OTLP/HTTP.
//
// Spans are made by others (package timeline maps invocations, package trace
// decides which): here they get the SDK's form, with identities, parents and
// times as given, and are sent in batches. Nothing here makes an invocation
// wait: Export puts into a bounded queue or drops, and counts what it drops.
// One goroutine does the rest; a collector that is slow or away costs spans
// and never memory or time. Shutdown sends what is queued, within a bound.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/firn-run/firn/internal/timeline"
)

// Config describes an Exporter.
type Config struct {
	// Endpoint is the collector's base URL, as in OTEL_EXPORTER_OTLP_ENDPOINT:
	// "http://localhost:4318". "/v1/traces" is appended to its path.
	Endpoint string
	// Headers go with every request, as in OTEL_EXPORTER_OTLP_HEADERS.
	Headers map[string]string
	Logger  *slog.Logger

	// Queue is how many sets of spans may wait; 0 means 2,048. A set is an
	// invocation's spans, or one datagram of X-Ray segments.
	Queue int
	// Batch is how many spans make a request; 0 means 512.
	Batch int
	// Delay is how long a span waits for its batch to fill; 0 means 1 s.
	Delay time.Duration
	// Timeout bounds one batch with all its retries; 0 means 10 s.
	Timeout time.Duration
}

// Stats count spans.
type Stats struct {
	Exported int64 // acknowledged by the collector
	Failed   int64 // given up: refused, or not delivered in time
	// DroppedSets counts sets of spans for which the queue had no room.
	DroppedSets int64
}

// Exporter sends spans. Its methods are safe for concurrent use.
type Exporter struct {
	cfg    Config
	client sdktrace.SpanExporter
	makers providers

	exported, failed, dropped atomic.Int64
	warned                    atomic.Bool // about a collector that fails

	cancel context.CancelFunc // ends a request under way
	done   chan struct{}      // closed when the goroutine has ended

	mu     sync.RWMutex // guards closed against a send on a closed channel
	closed bool
	queue  chan func() timeline.SpanSet
}

// ParseHeaders reads headers in the form of OTEL_EXPORTER_OTLP_HEADERS:
// name=value pairs with commas between them, values percent-encoded.
func ParseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, errors.New("otlp: headers must be name=value, with commas between")
		}
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("otlp: the value of header %s is not percent-encoded", name)
		}
		headers[name] = decoded
	}
	return headers, nil
}

// target is the URL for traces below a base URL.
func target(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("otlp: endpoint: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("otlp: endpoint %q must be http:// or https:// with a host and a port", u.Redacted())
	}
	return u.JoinPath("v1", "traces").String(), nil
}

// New starts an exporter; the caller ends it with Shutdown.
func New(cfg Config) (*Exporter, error) {
	if cfg.Queue <= 0 {
		cfg.Queue = 2048
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 512
	}
	if cfg.Delay <= 0 {
		cfg.Delay = time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	to, err := target(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	client, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(to),
		otlptracehttp.WithHeaders(cfg.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithTimeout(cfg.Timeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: 200 * time.Millisecond, MaxInterval: 2 * time.Second, MaxElapsedTime: cfg.Timeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Exporter{cfg: cfg, client: client, cancel: cancel, done: make(chan struct{}), queue: make(chan func() timeline.SpanSet, cfg.Queue)}
	go e.run(ctx)
	return e, nil
}

// Export queues a set of spans, which is made when its turn comes; without
// room it is dropped and counted. It never blocks.
func (e *Exporter) Export(batch func() timeline.SpanSet) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if !e.closed {
		select {
		case e.queue <- batch:
			return
		default:
		}
	}
	e.dropped.Add(1)
}

// Stats returns what was counted so far.
func (e *Exporter) Stats() Stats {
	return Stats{Exported: e.exported.Load(), Failed: e.failed.Load(), DroppedSets: e.dropped.Load()}
}

// Shutdown takes no more spans, sends what is queued and waits for it. When
// ctx ends first, the request under way is broken off and the rest is given
// up; the error says so. It may be called again.
func (e *Exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.queue)
	}
	e.mu.Unlock()
	var err error
	select {
	case <-e.done:
	case <-ctx.Done():
		err = fmt.Errorf("otlp: not all spans were sent: %w", ctx.Err())
	}
	e.cancel()
	<-e.done // soon, now that the context has ended
	return err
}

// run gathers spans into batches and sends them, until the queue is closed.
func (e *Exporter) run(ctx context.Context) {
	defer close(e.done)
	defer e.client.Shutdown(context.WithoutCancel(ctx)) // nothing is under way: it only marks the client
	timer := time.NewTimer(e.cfg.Delay)
	timer.Stop()
	var batch []sdktrace.ReadOnlySpan
	flush := func() {
		timer.Stop()
		for len(batch) > 0 {
			n := min(len(batch), e.cfg.Batch)
			e.send(ctx, batch[:n])
			batch = batch[n:]
		}
		batch = nil
	}
	for {
		select {
		case make, ok := <-e.queue:
			if !ok {
				flush()
				return
			}
			if ctx.Err() != nil {
				e.dropped.Add(1)
				continue
			}
			if len(batch) == 0 {
				timer.Reset(e.cfg.Delay)
			}
			if batch = append(batch, e.makers.spans(make())...); len(batch) >= e.cfg.Batch {
				flush()
			}
		case <-timer.C:
			flush()
		}
	}
}

// send exports one batch, with the retries of the SDK.
func (e *Exporter) send(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	err := e.client.ExportSpans(ctx, batch)
	if err == nil {
		e.exported.Add(int64(len(batch)))
		if e.warned.Swap(false) {
			e.cfg.Logger.Info("the trace collector takes spans again", "endpoint", e.cfg.Endpoint)
		}
		return
	}
	e.failed.Add(int64(len(batch)))
	if !e.warned.Swap(true) { // once per outage
		e.cfg.Logger.Warn("the trace collector does not take spans", "endpoint", e.cfg.Endpoint, "error", err)
	}
}
