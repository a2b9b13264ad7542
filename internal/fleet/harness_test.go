package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/sandbox"
)

// backend makes sandboxes in this process: a program in one is a goroutine
// that speaks the Runtime API. Environments over it are real.
type backend struct {
	// handler answers an event in a box. It must return when gone is closed.
	handler func(b *box, event string, gone <-chan struct{}) string

	// broken says, if it is not nil, in which boxes programs end at once.
	broken func(number int) bool
	// pipes connects programs by pipes in memory, for virtual time.
	pipes bool

	mu     sync.Mutex
	count  int
	boxes  []*box
	refuse error // of Create
}

func (b *backend) Name() string { return "goroutines" }
func (b *backend) Close() error { return nil }

func (b *backend) Create(_ context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return nil, b.refuse
	}
	listener := net.Listener(&pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})})
	if !b.pipes {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	b.count++
	made := &box{backend: b, number: b.count, spec: spec, listener: listener, events: make(chan sandbox.Event)}
	b.boxes = append(b.boxes, made)
	return made, nil
}

// pipeListener is a listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9001} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	return nil, net.ErrClosed
}

// box is one sandbox.
type box struct {
	backend  *backend
	number   int // in the order of making, from 1
	spec     sandbox.Spec
	listener net.Listener
	events   chan sandbox.Event
	running  atomic.Int32 // events being handled

	mu     sync.Mutex
	procs  []*proc
	closed bool
}

func (b *box) Listener() net.Listener { return b.listener }
func (b *box) APIAddr() string        { return b.listener.Addr().String() }
func (b *box) Paths() sandbox.Paths {
	return sandbox.Paths{Task: b.spec.TaskDir, Opt: b.spec.OptDir, Tmp: "/tmp"}
}
func (b *box) SetCPU(float64) error          { return nil }
func (b *box) Freeze() error                 { return nil }
func (b *box) Thaw() error                   { return nil }
func (b *box) Usage() (sandbox.Usage, error) { return sandbox.Usage{}, nil }

func (b *box) CPUTime() (time.Duration, error) { return 0, errors.ErrUnsupported }
func (b *box) ResetPeak() error                { return nil }
func (b *box) DaemonAddr() string              { return "" }

func (b *box) Dial(context.Context, int) (net.Conn, error)    { return nil, errors.ErrUnsupported }
func (b *box) Daemon(context.Context) (net.PacketConn, error) { return nil, errors.ErrUnsupported }

func (b *box) Events() <-chan sandbox.Event { return b.events }

func (b *box) Reset(context.Context) error {
	b.mu.Lock()
	procs := b.procs
	b.procs = nil
	b.mu.Unlock()
	for _, p := range procs {
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
	return nil
}

func (b *box) Close() error {
	b.Reset(context.Background())
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.events)
		return b.listener.Close()
	}
	return nil
}

func (b *box) Start(_ context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	ctx, kill := context.WithCancel(context.Background())
	p := &proc{kill: kill, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.procs = append(b.procs, p)
	go func() {
		defer close(p.done)
		if b.backend.broken != nil && b.backend.broken(b.number) {
			p.exit = sandbox.Exit{Code: 1, At: time.Now()}
			return
		}
		b.run(ctx)
		p.exit = sandbox.Exit{Signal: syscall.SIGKILL, At: time.Now()}
	}()
	return p, nil
}

// crash ends the programs of a box.
func (b *box) crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.procs {
		p.Signal(syscall.SIGKILL)
	}
}

// run is a runtime.
func (b *box) run(ctx context.Context) {
	transport := &http.Transport{DisableCompression: true}
	if l, ok := b.listener.(*pipeListener); ok {
		transport.DialContext = l.dial
	}
	defer transport.CloseIdleConnections()
	call := func(method, path, body string) (http.Header, string, error) {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+b.APIAddr()+"/2018-06-01/runtime/invocation/"+path, bytes.NewReader([]byte(body)))
		if err != nil {
			return nil, "", err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.Header, string(text), err
	}
	for {
		header, event, err := call("GET", "next", "")
		if err != nil {
			return
		}
		b.running.Add(1)
		answer := b.backend.handler(b, event, ctx.Done())
		b.running.Add(-1)
		if _, _, err := call("POST", header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", answer); err != nil {
			return
		}
	}
}

// proc is a goroutine that passes for a process.
type proc struct {
	kill context.CancelFunc
	done chan struct{}
	exit sandbox.Exit
}

func (p *proc) Signal(syscall.Signal) error { p.kill(); return nil }
func (p *proc) Done() <-chan struct{}       { return p.done }
func (p *proc) Exit() sandbox.Exit          { return p.exit }

// roots gives every digest a directory with a bootstrap in it.
type roots struct {
	dir string

	mu     sync.Mutex
	refuse error
}

func (r *roots) Function(_ context.Context, code firn.Digest) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		return "", r.refuse
	}
	dir := filepath.Join(r.dir, string(code))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "bootstrap"), nil, 0o755)
}

func (r *roots) Layers(context.Context, []firn.Digest) (string, error) { return "", nil }

// rig is a fleet over goroutines.
type rig struct {
	*Fleet
	t       *testing.T
	backend *backend
	roots   *roots

	mu   sync.Mutex
	now  time.Time // the fleet's clock; it stands still
	envs []*environment.Environment
}

// newRig makes a fleet and sees at the end that it leaves nothing behind.
func newRig(t *testing.T, edit func(*Config)) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	r := &rig{t: t, backend: &backend{handler: echo}, roots: &roots{dir: t.TempDir()}, now: time.Unix(1_700_000_000, 0)}
	cfg := Config{
		Roots: r.roots, AccountConcurrency: 100, MaxEnvironments: 100,
		IdleTimeout: time.Hour, Now: r.clock, RequestsPerSecond: -1, ScaleOut: -1,
	}
	cfg.Start = func(ctx context.Context, c environment.Config) (*environment.Environment, error) {
		c.ID, c.Backend, c.FreezeGrace = "test", r.backend, -1
		env, err := environment.Start(ctx, c)
		if err == nil {
			r.mu.Lock()
			r.envs = append(r.envs, env)
			r.mu.Unlock()
		}
		return env, err
	}
	if edit != nil {
		edit(&cfg)
	}
	r.Fleet = New(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error("close:", err)
		}
		if s := r.Stats(); s != (Stats{}) || r.alive.Load() != 0 {
			t.Errorf("after Close: %+v, %d alive", s, r.alive.Load())
		}
		eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before })
	})
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// environments are all that were ever started.
func (r *rig) environments() []*environment.Environment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*environment.Environment(nil), r.envs...)
}

func echo(_ *box, event string, _ <-chan struct{}) string { return event }

func version(name string) *firn.FunctionVersion {
	return &firn.FunctionVersion{
		Key: name, ARN: firn.FunctionARN("us-east-1", "123456789012", name), Account: "123456789012", Region: "us-east-1", Name: name,
		Version: firn.Latest, Runtime: "provided.al2023", MemoryMB: 128, Timeout: 30 * time.Second, Code: firn.Digest(name),
	}
}

var serial atomic.Int64

func (r *rig) invoke(v *firn.FunctionVersion, event string) (*environment.Outcome, error) {
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", serial.Add(1))
	return r.Invoke(r.t.Context(), v, &environment.Invocation{RequestID: id, ARN: v.ARN, Payload: []byte(event)})
}

// must invokes a function that answers.
func (r *rig) must(v *firn.FunctionVersion, event string) string {
	r.t.Helper()
	out, err := r.invoke(v, event)
	if err != nil {
		r.t.Fatal(err)
	}
	if out.FunctionError != "" {
		r.t.Fatalf("%s", out.Payload)
	}
	return string(out.Payload)
}

// quiet waits until no invocation occupies an environment.
func (r *rig) quiet() {
	r.t.Helper()
	eventually(r.t, "invocations are left", func() bool { return r.Stats().InFlight == 0 })
}

func (r *rig) left(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("not %d environments", n), func() bool { return r.Stats().Environments == n })
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.Now().Add(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Error(what)
			return
		}
		<-tick.C
	}
}

func isThrottle(err error) bool { return reasonOf(err) == "ConcurrentInvocationLimitExceeded" }

// reasonOf is the reason of a throttle that is complete, else "".
func reasonOf(err error) string {
	fault, ok := errors.AsType[*firn.Fault](err)
	if !ok || fault.Kind != firn.TooManyRequests || fault.RetryAfterSeconds != 0 || fault.Type != "User" ||
		fault.Message != map[bool]string{true: "Rate exceeded", false: "Rate Exceeded."}[fault.Reason == "CallerRateLimitExceeded"] {
		return ""
	}
	return fault.Reason
}
