package async

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async/deliver"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/queue"
	"github.com/firn-run/firn/internal/state"
)

const arnPrefix = "arn:aws:lambda:us-east-1:123456789012:function:"

// bench is an engine over a real store, with functions, services and a clock
// of the test. It runs in a synctest bubble.
type bench struct {
	t      *testing.T
	engine *Engine
	began  time.Time
	stop   func()

	ids atomic.Int64

	mu        sync.Mutex
	function  func(*invoke.Request) (*invoke.Response, error) // what every function does
	checks    func(*invoke.Request) error
	settings  map[string]Settings // by name, or name:qualifier
	gone      map[string]bool
	service   func(*http.Request, []byte) (int, string) // the services
	attempts  []attempt
	sent      []sent
	counts    map[string]int
	ages      []time.Duration
	inService int // functions that run
	most      int
}

// attempt is an invocation, sent a delivery, with the time since the start.
type attempt struct {
	at      time.Duration
	id, arn string
	payload string
	trace   string
	context string
}

type sent struct {
	at            time.Duration
	service, path string
	header        http.Header
	body          string
}

// run starts an engine in dir and calls test in a bubble of virtual time.
func run(t *testing.T, change func(*Config), test func(*bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start(dir, change)
		test(b)
		b.stop()
	})
}

func newBench(t *testing.T) *bench {
	return &bench{
		t: t, began: time.Now(), settings: map[string]Settings{}, gone: map[string]bool{}, counts: map[string]int{},
		function: func(*invoke.Request) (*invoke.Response, error) { return answerOf(`"done"`, ""), nil },
		checks:   func(*invoke.Request) error { return nil },
		service:  func(*http.Request, []byte) (int, string) { return http.StatusOK, `{"FailedEntryCount":0}` },
	}
}

// start opens the store and runs an engine until b.stop.
func (b *bench) start(dir string, change func(*Config)) {
	b.t.Helper()
	d, err := state.OpenDir(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	store, err := state.Open(context.Background(), state.Config{Dir: d})
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := Config{
		Store: store, Invoker: b, Configs: b, Roles: b, Metrics: b, Region: "us-east-1", Account: "123456789012",
		Logger:    slog.New(slog.NewTextHandler(testWriter{b.t}, nil)),
		Endpoints: map[string]string{"sqs": "http://sqs.test", "sns": "http://sns.test", "events": "http://events.test/", "s3": "http://s3.test"},
		Client:    &http.Client{Transport: b},
		NewID:     func() string { return fmt.Sprintf("id-%d", b.ids.Add(1)) },
	}
	if change != nil {
		change(&cfg)
	}
	b.engine = New(cfg)
	if err := b.engine.Load(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.engine.Run(ctx); err != nil {
			b.t.Error(err)
		}
	})
	b.stop = func() {
		cancel()
		running.Wait()
		if err := errors.Join(store.Close(), d.Close()); err != nil {
			b.t.Error(err)
		}
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// accept accepts an event and returns its request id.
func (b *bench) accept(function, payload string) string {
	b.t.Helper()
	ref, err := firn.ParseFunction(function)
	if err != nil {
		b.t.Fatal(err)
	}
	id := fmt.Sprintf("id-%d", b.ids.Add(1))
	if err := b.engine.Accept(context.Background(), &invoke.Request{Function: ref, RequestID: id, Payload: []byte(payload)}); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// sleep lets virtual time pass, and everything happen that is due in it.
func (b *bench) sleep(d time.Duration) {
	time.Sleep(d) // archtest:sleep virtual time
	b.settle()
}

// settle waits until nothing happens but by time. Writing to the disk is not
// waiting in the eyes of a bubble, but it is done when everybody else waits.
func (b *bench) settle() { synctest.Wait() }

func answerOf(payload, functionError string) *invoke.Response {
	return &invoke.Response{
		Outcome:         environment.Outcome{Payload: []byte(payload), FunctionError: functionError, Release: func() {}},
		ExecutedVersion: "$LATEST", TraceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:abc:1",
	}
}

func failing(*invoke.Request) (*invoke.Response, error) {
	return answerOf(`{"errorMessage":"it broke","errorType":"Boom"}`, "Unhandled"), nil
}

func throttled(*invoke.Request) (*invoke.Response, error) {
	return nil, &firn.Fault{Kind: firn.TooManyRequests, Message: "Rate Exceeded.", Reason: "ConcurrentInvocationLimitExceeded"}
}

// does sets what functions do.
func (b *bench) does(f func(*invoke.Request) (*invoke.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.function = f
}

// Check implements Invoker.
func (b *bench) Check(r *invoke.Request) error { return b.checks(r) }

// Invoke implements Invoker.
func (b *bench) Invoke(_ context.Context, r *invoke.Request) (*invoke.Response, error) {
	b.mu.Lock()
	b.attempts = append(b.attempts, attempt{
		at: time.Since(b.began), id: r.RequestID, arn: invokedARN(r.Function), payload: string(r.Payload), trace: r.TraceHeader, context: r.ClientContext,
	})
	f := b.function
	b.inService++
	b.most = max(b.most, b.inService)
	b.mu.Unlock()
	out, err := f(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inService--
	return out, err
}

// EventInvoke implements Configs.
func (b *bench) EventInvoke(ref firn.FunctionRef) (Settings, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := ref.Name
	if ref.Qualifier != "" {
		name += ":" + ref.Qualifier
	}
	if b.gone[ref.Name] {
		return Settings{}, firn.Faultf(firn.ResourceNotFound, "Function not found")
	}
	if s, ok := b.settings[name]; ok {
		return s, nil
	}
	return DefaultSettings(), nil
}

// Credentials implements Roles.
func (b *bench) Credentials(role, function string) (deliver.Credentials, error) {
	return deliver.Credentials{AccessKeyID: "ASIA" + strings.ToUpper(function), SecretAccessKey: "secret", SessionToken: "token of " + role}, nil
}

// RoundTrip implements http.RoundTripper: the services.
func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	service, _, _ := strings.Cut(r.URL.Host, ".")
	b.mu.Lock()
	b.sent = append(b.sent, sent{time.Since(b.began), service, r.URL.Path, r.Header, string(body)})
	serve := b.service
	b.mu.Unlock()
	status, text := serve(r, body)
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}}, nil
}

func (b *bench) count(what, arn string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what+" "+strings.TrimPrefix(arn, arnPrefix)]++
}

// EventReceived implements Metrics.
func (b *bench) EventReceived(arn string) { b.count("received", arn) }

// EventAge implements Metrics.
func (b *bench) EventAge(arn string, age time.Duration) {
	b.count("age", arn)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ages = append(b.ages, age)
}

// EventDropped implements Metrics.
func (b *bench) EventDropped(arn string) { b.count("dropped", arn) }

// DestinationFailed implements Metrics.
func (b *bench) DestinationFailed(arn string) { b.count("undelivered", arn) }

// DeadLetterFailed implements Metrics.
func (b *bench) DeadLetterFailed(arn string) { b.count("dead letter lost", arn) }

// times are when attempts were made at an event, rounded to milliseconds.
func (b *bench) times(id string) []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []time.Duration
	for _, a := range b.attempts {
		if a.id == id {
			list = append(list, a.at.Round(time.Millisecond))
		}
	}
	return list
}

// deliveries are what was sent to a service.
func (b *bench) deliveries(service string) []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []sent
	for _, s := range b.sent {
		if s.service == service {
			list = append(list, s)
		}
	}
	return list
}

// waiting is how many events there are.
func (b *bench) waiting() (n int64) {
	for _, l := range b.engine.queue.Lanes() {
		n += l.Items
	}
	return n
}

func itemOf(lane, note string) queue.Item {
	return queue.Item{Lane: lane, Due: time.Now(), Note: []byte(note)}
}

func claimOf(body []byte) *queue.Claim { return &queue.Claim{Item: queue.Item{Body: body}} }
