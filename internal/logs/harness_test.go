package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/state"
)

const (
	testRegion  = "eu-central-1"
	testAccount = "123456789012"
)

// clock is a clock that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// node is the service over real stores behind a real listener.
type node struct {
	*Service
	*cloudwatchlogs.Client
	t       *testing.T
	clock   *clock
	address string
	stop    func()
}

// config is how a test wants its node.
type config struct {
	dir       string // "" is a new one
	functions Functions
	run       bool // Run runs
	change    func(*Service)
	clock     *clock
}

func newNode(t *testing.T, cfg config) *node {
	t.Helper()
	if cfg.dir == "" {
		cfg.dir = t.TempDir()
	}
	if cfg.clock == nil {
		cfg.clock = newClock()
	}
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	dir, err := state.OpenDir(filepath.Join(cfg.dir, "data"))
	check(err)
	records, err := state.Open(t.Context(), state.Config{Dir: dir})
	check(err)
	events, err := logstore.Open(logstore.Config{Dir: filepath.Join(cfg.dir, "logs"), Now: cfg.clock.now})
	check(err)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s := New(Config{
		Store: events, State: records, Functions: cfg.functions, Logger: log,
		Region: testRegion, Account: testAccount, Now: cfg.clock.now,
	})
	if cfg.change != nil {
		cfg.change(s)
	}
	check(s.Load(t.Context()))
	mux := awswire.NewService(awswire.Config{Logger: log}, awswire.CloudWatchLogs())
	s.Mount(mux)
	server := httptest.NewServer(mux)

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if cfg.run {
		go func() { ended <- s.Run(ctx) }()
	} else {
		ended <- nil
	}
	n := &node{Service: s, Client: newClient(server.Listener.Addr().String()), t: t, clock: cfg.clock, address: server.Listener.Addr().String()}
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Close()
		if err := errors.Join(events.Close(), records.Close(), dir.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// newClient is an SDK client of a listener. The prefix that the SDK puts before
// the host for StartLiveTail must not send it elsewhere.
func newClient(address string) *cloudwatchlogs.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		BaseEndpoint: aws.String("http://firn.test"), Region: testRegion,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:  &http.Client{Transport: wholeBody{transport}}, Retryer: aws.NopRetryer{},
	})
}

// wholeBody sends request bodies from memory. The SDK's own bodies are closed
// when the answer begins, which cuts the connection if the transport has not
// seen their end by then (see tailPause); usually the SDK tries again.
type wholeBody struct{ http.RoundTripper }

func (w wholeBody) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return w.RoundTripper.RoundTrip(r)
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// group makes a group and streams in it.
func (n *node) group(name string, streams ...string) {
	n.t.Helper()
	_, err := n.CreateLogGroup(n.t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name})
	n.must(err)
	for _, stream := range streams {
		_, err := n.CreateLogStream(n.t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &name, LogStreamName: &stream})
		n.must(err)
	}
}

// event is an event some milliseconds after the clock's time.
func (n *node) event(after int, message string) types.InputLogEvent {
	at := n.clock.now().Add(time.Duration(after) * time.Millisecond).UnixMilli()
	return types.InputLogEvent{Timestamp: &at, Message: &message}
}

// put puts messages, a millisecond after each other from the given one on.
func (n *node) put(group, stream string, from int, messages ...string) {
	n.t.Helper()
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream}
	for i, m := range messages {
		in.LogEvents = append(in.LogEvents, n.event(from+i, m))
	}
	_, err := n.PutLogEvents(n.t.Context(), in)
	n.must(err)
}

// apiError is what the SDK makes of an answer with an error.
type apiError interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

// refused checks the type and the text of an error.
func refused(t *testing.T, err error, code, message string) {
	t.Helper()
	api, ok := errors.AsType[apiError](err)
	if !ok || api.ErrorCode() != code || api.ErrorMessage() != message {
		t.Errorf("error is %v\nwant %s: %s", err, code, message)
	}
}

// eventually waits until something is so, and fails with what it says else.
func eventually(t *testing.T, otherwise string, so func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	timeout := time.After(20 * time.Second)
	for !so() {
		select {
		case <-look.C:
		case <-timeout:
			t.Fatal(otherwise)
		}
	}
}
