package dev

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
)

// The clock stands still while anybody is attached, and counts nobody twice.
func TestStopwatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w stopwatch
		at := func(want time.Duration) {
			t.Helper()
			if got := w.total(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		<-time.After(time.Second)
		at(0)
		w.start()
		<-time.After(time.Second)
		at(time.Second)
		w.start()
		<-time.After(time.Second)
		w.stop()
		<-time.After(time.Second)
		at(3 * time.Second)
		w.stop()
		<-time.After(time.Hour)
		at(3 * time.Second)
		w.start()
		<-time.After(time.Second)
		at(4 * time.Second)
	})
}

func TestDebuggerVariables(t *testing.T) {
	for _, test := range []struct {
		runtime string
		port    int
		has     map[string]string
		want    map[string]string
		fails   string
	}{
		{runtime: "nodejs22.x", want: map[string]string{"NODE_OPTIONS": "--inspect=127.0.0.1:9229"}},
		{runtime: "nodejs22.x", port: 1234, has: map[string]string{"NODE_OPTIONS": "--trace-warnings"},
			want: map[string]string{"NODE_OPTIONS": "--trace-warnings --inspect=127.0.0.1:9229"}},
		{runtime: "java21", want: map[string]string{"JAVA_TOOL_OPTIONS": "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:5005"}},
		{runtime: "python3.13", want: map[string]string{"PYTHONPATH": "/var/task/.firn-debug", "FIRN_DEBUG_PORT": "5678", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}},
		{runtime: "python3.13", has: map[string]string{"PYTHONPATH": "/opt/x"}, want: map[string]string{"PYTHONPATH": "/var/task/.firn-debug:/opt/x", "FIRN_DEBUG_PORT": "5678", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}},
		{runtime: "provided.al2023", has: map[string]string{"A": "b"}, want: map[string]string{"A": "b", "FIRN_DEBUG_PORT": "2345"}},
		{runtime: "ruby3.4", fails: "ruby3.4 is none of them"},
		{runtime: "java21", port: 70000, fails: "no port 70000"},
	} {
		d, err := newDebugger(test.runtime, test.port)
		if test.fails != "" {
			if err == nil || !strings.Contains(err.Error(), test.fails) {
				t.Errorf("%s: %v, want %s", test.runtime, err, test.fails)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if test.port != 0 && d.port != test.port {
			t.Errorf("port %d, want %d", d.port, test.port)
		}
		version := &firn.FunctionVersion{Environment: test.has}
		cfg := environment.Config{Version: version, Backend: backend("linux"), TaskDir: "/host/1"}
		d.adapt(&cfg)
		if diff := cmp.Diff(test.want, cfg.Version.Environment); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.runtime, diff)
		}
		if len(version.Environment) != len(test.has) {
			t.Errorf("%s: the function's own variables were changed: %v", test.runtime, version.Environment)
		}
	}
}

// backend is a sandbox.Backend that has a name and nothing else.
type backend string

func (b backend) Name() string { return string(b) }
func (backend) Create(context.Context, sandbox.Spec) (sandbox.Sandbox, error) {
	return nil, sandbox.ErrClosed
}
func (backend) Close() error { return nil }

// A connection goes to the environment that began last and is still there.
func TestForwardToTheNewest(t *testing.T) {
	d := &debugger{family: runtimes.Provided, changed: make(chan struct{}), tell: func(s string) { t.Error(s) }}
	if err := d.listen(); err != nil { // any port
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()

	enter := func(word string) *environment.Config {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		go func() {
			for {
				conn, err := server.Accept()
				if err != nil {
					return
				}
				text, _ := io.ReadAll(conn) // to the debugger's last word
				io.WriteString(conn, word+" heard "+string(text))
				conn.Close()
			}
		}()
		cfg := &environment.Config{ID: word, Version: &firn.FunctionVersion{}, Backend: backend("linux")}
		d.adapt(cfg)
		cfg.WrapDial(func(ctx context.Context, _ int) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr().String())
		})
		return cfg
	}
	ask := func() string {
		conn, err := net.Dial("tcp", d.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "hello")
		conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		return string(answer)
	}
	early := make(chan string)
	go func() { early <- ask() }()
	first := enter("first")
	if got := <-early; got != "first heard hello" {
		t.Errorf("before the first: %q", got)
	}
	second := enter("second")
	if got := ask(); got != "second heard hello" {
		t.Errorf("%q", got)
	}
	second.OnEnded(nil)
	if got := ask(); got != "first heard hello" {
		t.Errorf("%q", got)
	}
	first.OnEnded(nil)
	if in, _ := d.newest(); in != nil {
		t.Errorf("left: %+v", in)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
	if d.clock.total() <= 0 {
		t.Error("the clock has not stopped")
	}
}
