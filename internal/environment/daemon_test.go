package environment

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/telemetry"
)

// segments is a receiver that remembers.
func segments() (chan string, func(*Config)) {
	got := make(chan string, 16)
	return got, func(c *Config) {
		c.Segments = func(src *telemetry.Source, datagram []byte) { got <- src.Function + " " + string(datagram) }
	}
}

func receive(t *testing.T, from chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("got %.100s, want %.100s", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("no segment")
	}
}

func traced(inv *Invocation) {
	inv.TraceID = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
}

const segment = "{\"format\":\"json\",\"version\":1}\n{\"name\":\"s\"}"

// What a sampled invocation sends to the X-Ray daemon is handed on, the first
// one's too, whether or not it finds the environment frozen.
func TestSegments(t *testing.T) {
	t.Parallel()
	got, config := segments()
	w := start(t, fixture{config: config})
	w.waitReady()
	for range 3 {
		w.invoke(command{Do: "xray", Arg: segment}, traced)
		receive(t, got, "fn "+segment)
		w.waitReady()
	}
	large := segment + strings.Repeat(" ", 60_000)
	w.invoke(command{Do: "xray", Arg: large}, traced)
	receive(t, got, "fn "+large)
}

// Functions with active tracing may send from their init on.
func TestSegmentsOfActiveTracing(t *testing.T) {
	t.Parallel()
	got, config := segments()
	w := start(t, fixture{vars: map[string]string{"INIT": "xray"}, config: func(c *Config) {
		config(c)
		c.Version.TracingActive = true
	}})
	receive(t, got, "fn "+segment)
	w.waitReady()
}

// undaemoned is a backend whose sandboxes have no X-Ray daemon, and count who
// asks for it.
type undaemoned struct {
	sandbox.Backend
	asked chan struct{}
}

func (u undaemoned) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	box, err := u.Backend.Create(ctx, spec)
	return undaemonedBox{box, u.asked}, err
}

type undaemonedBox struct {
	sandbox.Sandbox
	asked chan struct{}
}

func (u undaemonedBox) Daemon(context.Context) (net.PacketConn, error) {
	u.asked <- struct{}{}
	return nil, errors.New("no daemon")
}

// Only sampled requests open the daemon, once, and its lack costs nobody
// anything.
func TestSegmentsAreOptional(t *testing.T) {
	t.Parallel()
	_, config := segments()
	back := undaemoned{backend(t), make(chan struct{}, 16)}
	w := startOn(t, back, fixture{config: config})
	w.waitReady()
	w.invoke(command{})
	w.waitReady()
	if len(back.asked) > 0 {
		t.Error("opened for a request without a trace")
	}
	for range 2 {
		if out := w.invoke(command{}, traced); out.FunctionError != "" {
			t.Errorf("got %s", out.Payload)
		}
		w.waitReady()
	}
	if n := len(back.asked); n != 1 {
		t.Errorf("opened %d times", n)
	}
}

// The variables say where the daemon is; an extension does not get them.
func TestDaemonVariables(t *testing.T) {
	t.Parallel()
	w := start(t, fixture{})
	host, port, err := net.SplitHostPort(w.box.DaemonAddr())
	must(err)
	env := w.runtimeVariables()
	for _, want := range []string{"AWS_XRAY_DAEMON_ADDRESS=" + host + ":" + port, "_AWS_XRAY_DAEMON_ADDRESS=" + host, "_AWS_XRAY_DAEMON_PORT=" + port, "AWS_XRAY_CONTEXT_MISSING=LOG_ERROR"} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, kv := range w.extensionVariables() {
		if strings.Contains(kv, "XRAY") {
			t.Errorf("an extension gets %s", kv)
		}
	}
}

// The format of the log is told to the runtime, and to those who write it.
func TestLogFormatVariables(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		change func(*firn.FunctionVersion)
		want   []string
	}{
		{func(v *firn.FunctionVersion) {}, nil},
		{func(v *firn.FunctionVersion) { v.LogFormatJSON = true }, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=INFO"}},
		{func(v *firn.FunctionVersion) { v.LogFormatJSON, v.ApplicationLogLevel = true, "WARN" }, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=WARN"}},
		{func(v *firn.FunctionVersion) {
			v.LogFormatJSON, v.ApplicationLogLevel = true, "WARN"
			v.Environment = map[string]string{"AWS_LAMBDA_LOG_LEVEL": "TRACE"}
		}, []string{"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=TRACE"}},
	} {
		w := start(t, fixture{config: func(c *Config) { test.change(c.Version) }})
		var got []string
		for _, kv := range w.runtimeVariables() {
			if strings.HasPrefix(kv, "AWS_LAMBDA_LOG_") && !strings.HasPrefix(kv, "AWS_LAMBDA_LOG_GROUP") && !strings.HasPrefix(kv, "AWS_LAMBDA_LOG_STREAM") {
				got = append(got, kv)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
