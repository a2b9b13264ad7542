package sandboxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

func startRows() []row {
	return []row{
		{"exit codes", "Exit.Code is the status of a process that ended by itself", nil, exitCodes},
		{"death by signal", "Exit.Signal is the signal that ended a process", nil, deathBySignal},
		{"signal is handled", "Signal reaches a handler inside", nil, signalHandled},
		{"signal kills by default", "a process without a handler dies of SIGTERM: it is not PID 1", nil, signalDefault},
		{"signal spares children", "Signal goes to the process, not to its children", nil, signalSparesChildren},
		{"start errors", "a program that cannot be executed gives a StartError with the errno", nil, startErrors},
		{"argv, environment and directory", "Args, Env and Dir arrive exactly as given and nothing else", nil, exactArguments},
		{"descriptors", "0 is /dev/null and a process gets 0, 1 and 2 only", nil, descriptors},
		{"open files limit", "at most 1024 descriptors per process",
			need("a limit of open files", func(c Config) bool { return c.OpenFiles }), openFilesLimit},
		{"output", "Stdout and Stderr go where they were given", nil, output},
		{"output is drained before an answer counts", "a line written before an answer is there after Drain", nil, outputOrder},
		{"nil output", "nil Stdout and Stderr are /dev/null", nil, nilOutput},
		{"flood", "a process that floods its output disturbs nobody and can be reset", nil, flood},
		{"listener", "APIAddr leads from inside to Listener, for many connections at once", nil, listener},
		{"paths", "Paths.Task and Paths.Opt hold the given directories, Paths.Tmp is writable and empty", nil, paths},
		{"empty /opt", "without an OptDir Paths.Opt is an empty directory", nil, emptyOpt},
		{"runtime directory", "Paths.Lang and Paths.Runtime hold a runtime's directories, read-only", nil, runtimeDirectory},
		{"image", "with RootDir alone the image's own /var/task and /opt are seen, and the sandbox's /etc/hosts", nil, imageRoot},
		{"start with a dead context", "Start with an ended context starts nothing and gives its error", nil, startCancelled},
		{"many processes", "Start may be called concurrently", nil, concurrentStarts},
	}
}

func exitCodes(r *rig) {
	b := r.create(nil)
	for _, code := range []int{0, 1, 42, 255} {
		before := time.Now()
		exit := r.exit(b.start(b.command("exit", strconv.Itoa(code))))
		if exit.Code != code || exit.Signal != 0 || exit.OutOfMemory {
			r.Errorf("exit %d: %+v", code, exit)
		}
		if exit.At.Before(before) || exit.At.After(time.Now()) {
			r.Errorf("exit at %v, started at %v", exit.At, before)
		}
	}
}

func deathBySignal(r *rig) {
	b := r.create(nil)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM} {
		_, _, exit := b.output(b.command("signal", strconv.Itoa(int(sig))))
		// A Go program turns a SIGSEGV that it is sent into an exit status.
		if sig == syscall.SIGSEGV && exit.Signal == 0 && exit.Code == 2 {
			continue
		}
		if exit.Signal != sig || exit.OutOfMemory {
			r.Errorf("signal %d: %+v", sig, exit)
		}
	}
}

func signalHandled(r *rig) {
	b := r.create(nil)
	p := b.start(b.command("trap", b.APIAddr()))
	b.expect("trap")
	if err := p.Signal(syscall.SIGTERM); err != nil {
		r.Fatal(err)
	}
	if exit := r.exit(p); exit.Code != trapCode || exit.Signal != 0 {
		r.Errorf("%+v, want code %d", exit, trapCode)
	}
	// The number may belong to another process by now.
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.Errorf("signal after the end: %v, want nil or os.ErrProcessDone", err)
	}
}

func signalDefault(r *rig) {
	b := r.create(nil)
	p := b.start(b.command("wait", b.APIAddr(), "waiting"))
	b.expect("waiting")
	if err := p.Signal(syscall.SIGTERM); err != nil {
		r.Fatal(err)
	}
	if exit := r.exit(p); exit.Signal != syscall.SIGTERM {
		r.Errorf("%+v, want death by SIGTERM", exit)
	}
}

func signalSparesChildren(r *rig) {
	b := r.create(nil)
	parent, p := b.serve("parent")
	parent.must(order{Do: "child", Text: "child"})
	child := b.expect("child")
	child.beat()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		r.Fatal(err)
	}
	r.exit(p)
	for range 100 {
		child.beat()
	}
}

func startErrors(r *rig) {
	b := r.create(nil)
	task := b.Paths().Task
	for _, c := range []struct {
		name   string
		path   string
		dir    string
		want   syscall.Errno
		badDir bool
	}{
		{"missing", filepath.Join(task, "no-such-program"), task, syscall.ENOENT, false},
		{"not executable", filepath.Join(task, plainFile), task, syscall.EACCES, false},
		{"directory", task, task, syscall.EACCES, false},
		{"bad format", filepath.Join(task, garbageFile), task, syscall.ENOEXEC, false},
		{"missing interpreter", filepath.Join(task, badScriptFile), task, syscall.ENOENT, false},
		{"missing directory", filepath.Join(task, agentFile), filepath.Join(task, "no-such-directory"), syscall.ENOENT, true},
		{"file as directory", filepath.Join(task, agentFile), filepath.Join(task, plainFile), syscall.ENOTDIR, true},
	} {
		cmd := b.command("exit", "0")
		cmd.Path, cmd.Dir = c.path, c.dir
		p, err := b.Start(r.context(), cmd)
		if err == nil {
			r.Errorf("%s: started; %+v", c.name, r.exit(p))
			continue
		}
		se, ok := errors.AsType[*sandbox.StartError](err)
		if !ok {
			r.Errorf("%s: %v (%T), want a *StartError", c.name, err, err)
			continue
		}
		if !errors.Is(err, c.want) || se.BadDir != c.badDir || se.Path != c.path {
			r.Errorf("%s: %+v (errno %v), want %v, BadDir %t, path %s", c.name, se, se.Err, c.want, c.badDir, c.path)
		}
	}
	if exit := r.exit(b.start(b.command("exit", "3"))); exit.Code != 3 {
		r.Errorf("after the errors: %+v", exit)
	}
}

// readReport runs the agent's report.
func (b *box) readReport(cmd sandbox.Command) (rep report) {
	b.rig.Helper()
	stdout, stderr, exit := b.output(cmd)
	if err := json.Unmarshal([]byte(stdout), &rep); err != nil || exit.Code != 0 {
		b.rig.Fatalf("report: %v, %+v, %q, %q", err, exit, stdout, stderr)
	}
	return rep
}

func exactArguments(r *rig) {
	b := r.create(nil)
	cmd := b.command("report", "", "two words", "new\nline", "ä$`'\"\\")
	cmd.Args[0] = "another-name"
	cmd.Env = append(cmd.Env, "EMPTY=", "EQUALS=a=b=c", "LINES=1\n2", "UTF=ü", "_HANDLER=x.y")
	cmd.Dir = b.Paths().Tmp
	rep := b.readReport(cmd)
	if !slices.Equal(rep.Args, cmd.Args) {
		r.Errorf("argv %q, want %q", rep.Args, cmd.Args)
	}
	got, want := slices.Sorted(slices.Values(rep.Env)), slices.Sorted(slices.Values(cmd.Env))
	if !slices.Equal(got, want) {
		r.Errorf("environment %q, want %q", got, want)
	}
	if resolved, err := filepath.EvalSymlinks(cmd.Dir); rep.Dir != cmd.Dir && (err != nil || rep.Dir != resolved) {
		r.Errorf("directory %q, want %q", rep.Dir, cmd.Dir)
	}
}

func descriptors(r *rig) {
	b := r.create(nil)
	rep := b.readReport(b.command("report"))
	if len(rep.Descriptors) != 0 {
		r.Errorf("inherited descriptors: %q", rep.Descriptors)
	}
	if !rep.StdinEmpty {
		r.Error("standard input is not at its end")
	}
}

func openFilesLimit(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("opener")
	// The limit may arrive a moment after the program has begun; by the time
	// it has connected it holds.
	res := agent.ask(order{Do: "open", N: 4 * firn.MaxOpenFiles})
	if syscall.Errno(res.Errno) != syscall.EMFILE || res.N < firn.MaxOpenFiles-100 || res.N > firn.MaxOpenFiles {
		r.Errorf("opened %d, then %s; want about %d and EMFILE", res.N, res.Err, firn.MaxOpenFiles)
	}
}

func output(r *rig) {
	b := r.create(nil)
	out, err := strings.Repeat("out\n", 30_000), strings.Repeat("err\n", 30_000)
	gotOut, gotErr, exit := b.output(b.command("print", out, err))
	if gotOut != out || gotErr != err || exit.Code != 0 {
		r.Errorf("%d and %d bytes, %+v; want %d and %d", len(gotOut), len(gotErr), exit, len(out), len(err))
	}
}

func outputOrder(r *rig) {
	b := r.create(nil)
	var mu sync.Mutex
	var got strings.Builder
	pipe, w, err := sandbox.NewPipe(func(p []byte) { mu.Lock(); defer mu.Unlock(); got.Write(p) })
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = pipe.Close() })
	cmd := b.command("serve", b.APIAddr(), "printer")
	cmd.Stdout = w
	b.start(cmd)
	_ = w.Close()
	agent := b.expect("printer")
	want := ""
	for i := range 200 {
		line := fmt.Sprintf("line %d\n", i)
		want += line
		agent.must(order{Do: "print", Text: line})
		pipe.Drain()
		mu.Lock()
		if got.String() != want {
			r.Fatalf("after the answer to line %d: %q", i, got.String())
		}
		mu.Unlock()
	}
}

func nilOutput(r *rig) {
	b := r.create(nil)
	if exit := r.exit(b.start(b.command("print", "to nobody\n", "to nobody\n"))); exit.Code != 0 {
		r.Errorf("%+v", exit)
	}
}

func flood(r *rig) {
	b := r.create(nil)
	var mu sync.Mutex
	seen := 0
	enough := make(chan struct{})
	pipe, w, err := sandbox.NewPipe(func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		if seen < 8<<20 && seen+len(p) >= 8<<20 {
			close(enough)
		}
		seen += len(p)
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = pipe.Close() })
	cmd := b.command("flood")
	cmd.Stdout = w
	p := b.start(cmd)
	_ = w.Close()
	neighbour, _ := r.create(nil).serve("neighbour")
	for range 20 {
		neighbour.must(order{Do: "ping"})
		pipe.Drain()
	}
	select {
	case <-enough:
	case <-time.After(r.cfg.Patience):
		r.Fatal("the flood does not arrive")
	}
	if err := b.Reset(r.context()); err != nil {
		r.Fatal(err)
	}
	if exit := r.exit(p); exit.Signal != syscall.SIGKILL {
		r.Errorf("%+v, want SIGKILL", exit)
	}
}

func listener(r *rig) {
	b := r.create(nil)
	const count = 200
	p := b.start(b.command("many", b.APIAddr(), strconv.Itoa(count)))
	for range count {
		if _, err := b.expect("many").conn.Write([]byte("!")); err != nil {
			r.Fatal(err)
		}
	}
	if exit := r.exit(p); exit.Code != 0 {
		r.Errorf("%+v", exit)
	}
}

func paths(r *rig) {
	b := r.create(nil)
	agent, _ := b.serve("reader")
	if got := agent.must(order{Do: "read", Text: filepath.Join(b.Paths().Opt, layerFile)}).Text; got != "layer\n" {
		r.Errorf("/opt: %q", got)
	}
	if got := agent.must(order{Do: "read", Text: filepath.Join(b.Paths().Task, badScriptFile)}).Text; !strings.HasPrefix(got, "#!") {
		r.Errorf("/var/task: %q", got)
	}
	file := filepath.Join(b.Paths().Tmp, "file")
	agent.must(order{Do: "write", Text: file})
	if got := agent.must(order{Do: "read", Text: file}).Text; got != "kept" {
		r.Errorf("/tmp: %q", got)
	}
	if r.cfg.Isolated {
		if got := b.Paths(); got != (sandbox.Paths{Task: "/var/task", Opt: "/opt", Lang: "/var/lang", Runtime: "/var/runtime", Tmp: "/tmp"}) {
			r.Errorf("%+v", got)
		}
		if got := b.APIAddr(); got != "127.0.0.1:9001" {
			r.Errorf("APIAddr %s", got)
		}
	}
}

func emptyOpt(r *rig) {
	b := r.create(func(s *sandbox.Spec) { s.OptDir = "" })
	agent, _ := b.serve("reader")
	res := agent.ask(order{Do: "read", Text: filepath.Join(b.Paths().Opt, layerFile)})
	if syscall.Errno(res.Errno) != syscall.ENOENT {
		r.Errorf("file of a layer: %+v, want ENOENT", res)
	}
	if res := agent.ask(order{Do: "read", Text: b.Paths().Opt}); syscall.Errno(res.Errno) != syscall.EISDIR {
		r.Errorf("%s: %+v, want a directory", b.Paths().Opt, res)
	}
}

func startCancelled(r *rig) {
	b := r.create(nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Start(ctx, b.command("exit", "0")); !errors.Is(err, context.Canceled) {
		r.Errorf("%v, want context.Canceled", err)
	}
	if exit := r.exit(b.start(b.command("exit", "5"))); exit.Code != 5 {
		r.Errorf("afterwards: %+v", exit)
	}
}

func concurrentStarts(r *rig) {
	b := r.create(func(s *sandbox.Spec) { s.MemoryMB = 1024 }) // room for a dozen agents, instrumented ones too
	var group sync.WaitGroup
	for i := range 12 {
		group.Go(func() {
			p, err := b.Start(r.context(), b.command("exit", strconv.Itoa(i)))
			if err != nil {
				r.Error(err)
				return
			}
			select {
			case <-p.Done():
				if p.Exit().Code != i {
					r.Errorf("process %d: %+v", i, p.Exit())
				}
			case <-time.After(r.cfg.Patience):
				r.Error("a process has not ended")
			}
		})
	}
	group.Wait()
}
