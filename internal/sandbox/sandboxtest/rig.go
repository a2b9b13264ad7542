package sandboxtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// Names of the files in the function's directory.
const (
	agentFile     = "agent"
	plainFile     = "not-executable"
	garbageFile   = "garbage"
	badScriptFile = "bad-script"
	layerFile     = "from-a-layer"
)

// makeFunction lays out /var/task and /opt: read-only, readable for all.
func makeFunction(t *testing.T) (task, opt string) {
	t.Helper()
	// Not t.TempDir: an unprivileged backend must be able to pass every
	// directory on the way, and those of t.TempDir are closed to others.
	root, err := os.MkdirTemp("", "sandboxtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range []string{task, opt} {
			_ = os.Chmod(dir, 0o755)
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	task, opt = filepath.Join(root, "task"), filepath.Join(root, "opt")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{task, opt} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, exe, filepath.Join(task, agentFile))
	for name, content := range map[string]string{
		filepath.Join(task, garbageFile):   "\x01\x02 neither a program nor a script",
		filepath.Join(task, badScriptFile): "#!/no/such/interpreter\n",
		filepath.Join(opt, layerFile):      "layer\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(task, plainFile), []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, task, opt} {
		if err := os.Chmod(dir, 0o555|os.FileMode(map[bool]uint32{true: 0o200}[dir == root])); err != nil {
			t.Fatal(err)
		}
	}
	return task, opt
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(dst, src); err == nil {
		err = dst.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rig is what one row works with.
type rig struct {
	*testing.T
	cfg       Config
	backend   sandbox.Backend
	task, opt string
	count     int
}

func newRig(t *testing.T, cfg Config, task, opt string) *rig {
	r := &rig{T: t, cfg: cfg, task: task, opt: opt, backend: cfg.New(t)}
	t.Cleanup(func() {
		if err := r.backend.Close(); err != nil {
			t.Errorf("close backend: %v", err)
		}
	})
	return r
}

// context is limited by the row's patience.
func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Patience)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) spec() sandbox.Spec {
	r.count++
	return sandbox.Spec{
		ID:                 fmt.Sprintf("t%d-%d", os.Getpid(), r.count),
		TaskDir:            r.task,
		OptDir:             r.opt,
		RootDir:            r.cfg.RootDir,
		MemoryMB:           128,
		EphemeralStorageMB: 512,
		Network:            sandbox.NetworkNone,
	}
}

// box is a sandbox with the suite's end of its Runtime API listener.
type box struct {
	sandbox.Sandbox
	rig *rig

	accepting sync.WaitGroup
	mu        sync.Mutex
	waiting   map[string]chan *peer
}

// create makes a sandbox of the default size, changed by edit when not nil.
func (r *rig) create(edit func(*sandbox.Spec)) *box {
	r.Helper()
	spec := r.spec()
	if edit != nil {
		edit(&spec)
	}
	sb, err := r.backend.Create(r.context(), spec)
	if err != nil {
		r.Fatalf("create: %v", err)
	}
	b := &box{Sandbox: sb, rig: r, waiting: make(map[string]chan *peer)}
	b.accepting.Go(b.accept)
	r.Cleanup(func() {
		if err := sb.Close(); err != nil {
			r.Errorf("close sandbox: %v", err)
		}
		b.accepting.Wait()
	})
	return b
}

// accept sorts connections by the name in their first line.
func (b *box) accept() {
	var greeting sync.WaitGroup
	defer greeting.Wait()
	for {
		conn, err := b.Listener().Accept()
		if err != nil {
			return
		}
		greeting.Go(func() {
			p := &peer{rig: b.rig, conn: conn, lines: bufio.NewReader(conn)}
			_ = conn.SetDeadline(time.Now().Add(b.rig.cfg.Patience))
			name, err := p.lines.ReadString('\n')
			if err != nil {
				_ = conn.Close()
				return
			}
			b.queue(strings.TrimSpace(name)) <- p
		})
	}
}

func (b *box) queue(name string) chan *peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[name] == nil {
		b.waiting[name] = make(chan *peer, 1024)
	}
	return b.waiting[name]
}

// expect waits for a connection from inside that calls itself name.
func (b *box) expect(name string) *peer {
	b.rig.Helper()
	select {
	case p := <-b.queue(name):
		b.rig.Cleanup(func() { _ = p.conn.Close() })
		return p
	case <-time.After(b.rig.cfg.Patience):
		b.rig.Fatalf("no connection from %q arrived at the listener", name)
		return nil
	}
}

// command is the agent with verb and arguments.
func (b *box) command(args ...string) sandbox.Command {
	path := filepath.Join(b.Paths().Task, agentFile)
	return sandbox.Command{
		Path: path,
		Args: append([]string{path}, args...),
		Env:  []string{agentVariable + "=1", "TMPDIR=" + b.Paths().Tmp, "GOMAXPROCS=2"},
		Dir:  b.Paths().Task,
	}
}

func (b *box) start(cmd sandbox.Command) sandbox.Process {
	b.rig.Helper()
	p, err := b.Start(b.rig.context(), cmd)
	if err != nil {
		b.rig.Fatalf("start %q: %v", cmd.Args, err)
	}
	return p
}

// exit waits for the end of p.
func (r *rig) exit(p sandbox.Process) sandbox.Exit {
	r.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(r.cfg.Patience):
		r.Fatal("the process has not ended")
		return sandbox.Exit{}
	}
}

// output runs cmd to its end and returns what it wrote.
func (b *box) output(cmd sandbox.Command) (stdout, stderr string, exit sandbox.Exit) {
	b.rig.Helper()
	var texts [2]strings.Builder
	var pipes [2]*sandbox.Pipe
	var ends [2]*os.File
	for i := range pipes {
		var err error
		pipes[i], ends[i], err = sandbox.NewPipe(func(p []byte) { texts[i].Write(p) })
		if err != nil {
			b.rig.Fatal(err)
		}
	}
	cmd.Stdout, cmd.Stderr = ends[0], ends[1]
	p, err := b.Start(b.rig.context(), cmd)
	for _, w := range ends {
		_ = w.Close()
	}
	if err != nil {
		b.rig.Fatalf("start %q: %v", cmd.Args, err)
	}
	exit = b.rig.exit(p)
	for _, pipe := range pipes {
		pipe.Drain()
		_ = pipe.Close()
	}
	return texts[0].String(), texts[1].String(), exit
}

// serve starts an agent that takes orders, under a name of its own.
func (b *box) serve(name string) (*peer, sandbox.Process) {
	b.rig.Helper()
	p := b.start(b.command("serve", b.APIAddr(), name))
	return b.expect(name), p
}

// peer is a connection made by an agent.
type peer struct {
	rig   *rig
	conn  net.Conn
	lines *bufio.Reader
}

// order is a request to a serving agent, answered by a result.
type order struct {
	Do   string
	Text string
	N    int
}

type result struct {
	Errno int    // syscall.Errno of a failed system call
	Err   string // the failure in words, or ""
	Text  string
	N     int
	Facts *facts `json:",omitempty"`
}

func (p *peer) ask(o order) result {
	p.rig.Helper()
	res, err := p.try(o)
	if err != nil {
		p.rig.Fatalf("%s %s: the agent does not answer: %v", o.Do, o.Text, err)
	}
	return res
}

// must is ask for an order that has to succeed.
func (p *peer) must(o order) result {
	p.rig.Helper()
	res := p.ask(o)
	if res.Err != "" {
		p.rig.Fatalf("%s %s: %s", o.Do, o.Text, res.Err)
	}
	return res
}

func (p *peer) try(o order) (res result, err error) {
	_ = p.conn.SetDeadline(time.Now().Add(p.rig.cfg.Patience))
	if err := json.NewEncoder(p.conn).Encode(o); err != nil {
		return res, err
	}
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return res, err
	}
	return res, json.Unmarshal(line, &res)
}

// beat reads one heartbeat.
func (p *peer) beat() {
	p.rig.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(p.rig.cfg.Patience))
	if _, err := p.lines.ReadString('\n'); err != nil {
		p.rig.Fatalf("no heartbeat: %v", err)
	}
}

// quietTime without a heartbeat (they come every millisecond) means stopped.
const quietTime = 400 * time.Millisecond

// quiet reads heartbeats until they stop to come.
func (p *peer) quiet() {
	p.rig.Helper()
	for end := time.Now().Add(p.rig.cfg.Patience); time.Now().Before(end); {
		_ = p.conn.SetReadDeadline(time.Now().Add(quietTime))
		_, err := p.lines.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			p.rig.Fatalf("the agent ended: %v", err)
		}
	}
	p.rig.Fatal("heartbeats go on")
}

// gone waits until the peer's end of the connection is closed.
func (p *peer) gone() {
	p.rig.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(p.rig.cfg.Patience))
	_, err := io.Copy(io.Discard, p.lines)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		p.rig.Fatalf("the process behind the connection is still there: %v", err)
	}
}
