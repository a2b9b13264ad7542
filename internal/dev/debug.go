package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/telemetryapi"
)

// debugger opens the debug server of the language to the host. The server
// listens inside, on the sandbox's own loopback; each connection from outside
// goes to the environment that began last. As long as there is one, the clock
// of time limits stands still.
type debugger struct {
	family runtimes.Family
	port   int // outside
	inner  int // inside, where every sandbox has a loopback of its own
	clock  stopwatch
	tell   func(string)

	listener net.Listener // set by listen

	mu      sync.Mutex
	inmates []*inmate     // by age
	changed chan struct{} // closed when one comes
}

// inmate is an environment with a debug server.
type inmate struct {
	id   string
	dial telemetryapi.Dialer
	port int
}

// Ports that debuggers look at by default.
const (
	nodePort   = 9229 // Node.js inspector
	pythonPort = 5678 // debugpy
	javaPort   = 5005 // what IDEs propose for JDWP
	otherPort  = 2345 // Delve's
)

// maxDebuggers bounds the connections to the debug port.
const maxDebuggers = 32

func newDebugger(runtime string, port int) (*debugger, error) {
	r, _ := runtimes.Lookup(runtime)
	inner := 0
	switch r.Family {
	case runtimes.Nodejs:
		inner = nodePort
	case runtimes.Python:
		inner = pythonPort
	case runtimes.Java:
		inner = javaPort
	case runtimes.Provided:
		inner = otherPort
	default:
		return nil, fmt.Errorf("--debug knows Node.js, Python, Java and runtimes of your own; %s is none of them", runtime)
	}
	if port < 0 || port > 65535 {
		return nil, fmt.Errorf("--debug: there is no port %d", port)
	}
	return &debugger{family: r.Family, port: cmp.Or(port, inner), inner: inner, changed: make(chan struct{})}, nil
}

// about says how to attach.
func (d *debugger) about() string {
	at := fmt.Sprintf("127.0.0.1:%d, sources in /var/task", d.port)
	switch d.family {
	case runtimes.Nodejs:
		at += " (Node.js inspector: chrome://inspect, or attach with your editor)"
	case runtimes.Python:
		at += " (debugpy, as far as the function or a layer brings it)"
	case runtimes.Java:
		at += " (JDWP)"
	default:
		at += " (what your runtime listens at: its port is in " + debugVariable + ")"
	}
	return at + "; time limits wait while it is attached"
}

// debugVariable tells runtimes of the user's own which port is forwarded.
const debugVariable = "FIRN_DEBUG_PORT"

// adapt has an environment open its debug server, and remembers the way to it.
func (d *debugger) adapt(cfg *environment.Config) {
	in := &inmate{id: cfg.ID, port: d.inner}
	if cfg.Backend.Name() == process { // the host's own loopback
		port, err := freePort()
		if err != nil {
			d.tell("no debugger: " + err.Error())
			return
		}
		in.port = port
	}
	v := *cfg.Version
	v.Environment = maps.Clone(v.Environment)
	if v.Environment == nil {
		v.Environment = map[string]string{}
	}
	task := "/var/task"
	if cfg.Backend.Name() == process {
		task = cfg.TaskDir
	}
	d.variables(v.Environment, in.port, task)
	cfg.Version = &v
	cfg.ClockStopped = d.clock.total
	wrap := cfg.WrapDial
	cfg.WrapDial = func(next telemetryapi.Dialer) telemetryapi.Dialer {
		in.dial = next
		d.enter(in)
		if wrap != nil {
			next = wrap(next)
		}
		return next
	}
	ended := cfg.OnEnded
	cfg.OnEnded = func(e *environment.Environment) {
		d.leave(in)
		if ended != nil {
			ended(e)
		}
	}
}

// variables switch the language's debug server on.
func (d *debugger) variables(env map[string]string, port int, task string) {
	add := func(name, value string) {
		if env[name] != "" {
			value = env[name] + " " + value
		}
		env[name] = value
	}
	at := "127.0.0.1:" + strconv.Itoa(port)
	switch d.family {
	case runtimes.Nodejs:
		add("NODE_OPTIONS", "--inspect="+at)
	case runtimes.Java:
		add("JAVA_TOOL_OPTIONS", "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address="+at)
	case runtimes.Python:
		path := task + "/" + pythonHook
		if env["PYTHONPATH"] != "" {
			path += ":" + env["PYTHONPATH"]
		}
		env["PYTHONPATH"] = path
		if env["PYDEVD_DISABLE_FILE_VALIDATION"] == "" {
			env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1" // a warning in each log otherwise
		}
		env[debugVariable] = strconv.Itoa(port)
	default:
		env[debugVariable] = strconv.Itoa(port)
	}
}

// process is the sandbox in which functions see the host as it is.
const process = "process"

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (d *debugger) enter(in *inmate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inmates = append(d.inmates, in)
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *debugger) leave(in *inmate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, other := range d.inmates {
		if other == in {
			d.inmates = append(d.inmates[:i:i], d.inmates[i+1:]...)
			return
		}
	}
}

// newest is the environment that began last, or nil.
func (d *debugger) newest() (*inmate, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.inmates); n > 0 {
		return d.inmates[n-1], d.changed
	}
	return nil, d.changed
}

// listen opens the port, so that a debugger may come from then on.
func (d *debugger) listen() (err error) {
	if d.listener, err = net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(d.port)); err != nil {
		return fmt.Errorf("--debug: %w", err)
	}
	return nil
}

func (d *debugger) close() error {
	if d.listener == nil {
		return nil
	}
	if err := d.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// run serves the port until ctx ends.
func (d *debugger) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { d.listener.Close() })()
	var connections sync.WaitGroup
	defer connections.Wait()
	room := make(chan struct{}, maxDebuggers)
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("--debug: %w", err)
		}
		select {
		case room <- struct{}{}:
			connections.Go(func() {
				defer func() { <-room }()
				d.forward(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

// A debugger may be there before the function: it waits so long for an
// environment whose debug server listens.
const (
	attachTime = time.Minute
	attachStep = 50 * time.Millisecond
	detachTime = 2 * time.Second // for the debug server's last words
)

// forward connects a debugger with the newest environment.
func (d *debugger) forward(ctx context.Context, outside net.Conn) {
	defer outside.Close()
	inside, err := d.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			d.tell("a debugger came and found nobody: " + err.Error())
		}
		return
	}
	defer inside.Close()
	d.clock.start()
	defer d.clock.stop()
	stop := context.AfterFunc(ctx, func() { outside.Close(); inside.Close() })
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() {
		io.Copy(inside, outside)
		closeWrite(inside)
		// A debugger that has said its last word is not attached any more.
		inside.SetReadDeadline(time.Now().Add(detachTime))
	})
	io.Copy(outside, inside) // ends with the environment
	outside.Close()
	copying.Wait()
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	c.Close()
}

func (d *debugger) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	last := errors.New("the function was not invoked yet, so that there is no environment")
	for {
		in, changed := d.newest()
		if in != nil {
			conn, err := in.dial(ctx, in.port)
			if err == nil {
				return conn, nil
			}
			last = err
		}
		select {
		case <-time.After(attachStep):
		case <-changed:
		case <-ctx.Done():
			return nil, last
		}
	}
}

// stopwatch measures for how long anybody was attached.
type stopwatch struct {
	mu    sync.Mutex
	users int
	since time.Time
	sum   time.Duration
}

func (w *stopwatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users++; w.users == 1 {
		w.since = time.Now()
	}
}

func (w *stopwatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users--; w.users == 0 {
		w.sum += time.Since(w.since)
	}
}

// total is the sum of all times, with the one that lasts.
func (w *stopwatch) total() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users > 0 {
		return w.sum + time.Since(w.since)
	}
	return w.sum
}
