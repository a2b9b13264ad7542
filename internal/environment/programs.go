package environment

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/sandbox"
)

const (
	sigterm = syscall.SIGTERM
	sigkill = syscall.SIGKILL

	// startLimit bounds the start of one process, resetLimit the killing of
	// all. Both are milliseconds on a healthy host.
	startLimit = 10 * time.Second
	resetLimit = 10 * time.Second
)

// program is a process of a party with the pipes that its output comes by. They
// can outlive the process, in the hands of its children.
type program struct {
	party   lifecycle.Party
	process sandbox.Process
	pipes   []*sandbox.Pipe
	frames  *framed       // of a managed runtime, else nil
	watched chan struct{} // closed when Exited has been reported
}

func (p *program) drain() {
	for _, pipe := range p.pipes {
		pipe.Drain()
	}
}

// addPipe makes one more pipe and returns its write end.
func (p *program) addPipe(sink func([]byte)) (*os.File, error) {
	pipe, w, err := sandbox.NewPipe(sink)
	if err == nil {
		p.pipes = append(p.pipes, pipe)
	}
	return w, err
}

// closePipes ends the delivery of what comes by them.
func (p *program) closePipes() error {
	var errs []error
	for _, pipe := range p.pipes {
		errs = append(errs, pipe.Close())
	}
	return errors.Join(errs...)
}

// outputs are the write ends that a process is started with.
type outputs struct {
	std    *os.File // standard output and error
	frames *os.File // the framed log, or nil
}

func (o *outputs) close() {
	o.std.Close()
	if o.frames != nil {
		o.frames.Close()
	}
}

// enqueueLocked gives a job to the worker. Starting, signalling and killing
// processes are calls to other processes or waits; they happen in the order
// in which the machine asked for them.
func (e *Environment) enqueueLocked(job func()) {
	e.jobs = append(e.jobs, job)
	if !e.working {
		e.working = true
		e.group.Go(e.work)
	}
}

// work does the jobs and ends when there are none: an idle environment has no
// worker.
func (e *Environment) work() {
	for {
		e.mu.Lock()
		if len(e.jobs) == 0 {
			e.jobs, e.working = nil, false
			e.mu.Unlock()
			return
		}
		job := e.jobs[0]
		e.jobs = e.jobs[1:]
		e.mu.Unlock()
		job()
	}
}

// launch starts a party's process.
func (e *Environment) launch(party lifecycle.Party) {
	p := &program{party: party, watched: make(chan struct{})}
	out, err := e.connect(p)
	if err != nil {
		p.closePipes()
		e.step(lifecycle.SandboxFailed{Message: err.Error()})
		return
	}
	p.process, err = e.start(party, out)
	out.close() // the process has its own copies
	if err != nil {
		p.closePipes()
		e.step(launchFault(party, err))
		return
	}
	e.mu.Lock()
	e.programs = append(e.programs, p)
	e.mu.Unlock()
	e.group.Go(func() { e.watch(p) })
}

// connect makes the pipes of a program. A managed runtime has one more than
// others, for its framed log.
func (e *Environment) connect(p *program) (out *outputs, err error) {
	extension := ""
	if p.party != lifecycle.RuntimeParty {
		extension = string(p.party)
	}
	out = &outputs{}
	if out.std, err = p.addPipe(e.out.stream(extension).write); err != nil {
		return nil, err
	}
	if extension == "" && e.managed() {
		p.frames = &framed{out: e.out}
		if out.frames, err = p.addPipe(p.frames.write); err != nil {
			out.close()
			return nil, err
		}
	}
	return out, nil
}

// start executes the party's program.
func (e *Environment) start(party lifecycle.Party, out *outputs) (sandbox.Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if party != lifecycle.RuntimeParty {
		return e.startExtension(ctx, path.Join(e.box.Paths().Opt, "extensions", string(party)), out.std)
	}
	return e.startRuntime(ctx, out)
}

// startExtension executes an extension's file. What the kernel does not take
// for a program is given to a shell, as Lambda does: a script needs no
// interpreter line (and a program for another processor dies of the shell's
// "cannot execute binary file"). The shell of Lambda's own system is bash.
func (e *Environment) startExtension(ctx context.Context, file string, out *os.File) (sandbox.Process, error) {
	cmd := sandbox.Command{Path: file, Args: []string{file}, Env: e.extensionVariables(), Dir: "/", Stdout: out, Stderr: out}
	p, err := e.box.Start(ctx, cmd)
	for _, shell := range []string{"/bin/bash", "/bin/sh"} {
		if _, ok := errors.AsType[*sandbox.StartError](err); !ok || !errors.Is(err, syscall.ENOEXEC) {
			break
		}
		cmd.Path, cmd.Args = shell, []string{shell, file}
		tried, failed := e.box.Start(ctx, cmd)
		if failed == nil {
			return tried, nil
		}
	}
	return p, err
}

// launchFault turns the reason why a program did not start into an event.
func launchFault(party lifecycle.Party, err error) lifecycle.Event {
	failed := lifecycle.LaunchFailed{Party: party, Message: err.Error()}
	se, isStart := errors.AsType[*sandbox.StartError](err)
	_, isMissing := errors.AsType[*noEntrypointError](err)
	switch {
	case !isStart && !isMissing:
		return lifecycle.SandboxFailed{Message: err.Error()}
	case party != lifecycle.RuntimeParty:
		failed.ErrorType = "Extension.LaunchError"
	case isStart && se.BadDir:
		failed.ErrorType = "Runtime.InvalidWorkingDir"
	default:
		failed.ErrorType = "Runtime.InvalidEntrypoint"
	}
	if isStart {
		failed.Message = "fork/exec " + se.Path + ": " + se.Err.Error() // as AWS says it
	}
	return failed
}

// watch reports the end of a process, after the last it has written.
func (e *Environment) watch(p *program) {
	<-p.process.Done()
	p.drain()
	if p.frames != nil {
		p.frames.flush()
	}
	e.out.flush(p.party)
	exit := p.process.Exit()
	ev := lifecycle.Exited{Party: p.party, Code: exit.Code, OutOfMemory: exit.OutOfMemory}
	if exit.Signal != 0 {
		ev.Signal = exit.Signal.String()
	}
	e.step(ev)
	close(p.watched)
}

// signal sends a signal to the party's newest process. One that has ended is
// no error.
func (e *Environment) signal(party lifecycle.Party, sig syscall.Signal) {
	e.mu.Lock()
	var found *program
	for _, p := range e.programs {
		if p.party == party {
			found = p
		}
	}
	e.mu.Unlock()
	if found == nil {
		return // it was not started: LaunchFailed has said so
	}
	if err := found.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		e.cfg.Logger.Warn("signal a process", "party", strings.TrimPrefix(string(party), "\x00"), "signal", sig.String(), "error", err)
	}
}

// reset kills everything inside and makes sure that nothing that it has said
// or sent arrives later.
func (e *Environment) reset() {
	ctx, cancel := context.WithTimeout(context.Background(), resetLimit)
	defer cancel()
	if err := e.box.Reset(ctx); err != nil {
		e.cfg.Logger.Error("reset sandbox", "error", err)
		e.step(lifecycle.SandboxFailed{Message: "reset: " + err.Error()})
		return
	}
	e.closePrograms()
	e.api.CloseConnections()
	e.hub.Reset()
	e.step(lifecycle.ResetDone{})
}

// closePrograms waits until the ends of all processes have been reported, and
// closes their pipes. The processes are dead, or about to be.
func (e *Environment) closePrograms() {
	e.mu.Lock()
	programs := e.programs
	e.mu.Unlock()
	for _, p := range programs {
		<-p.watched
		p.drain()
		if err := p.closePipes(); err != nil {
			e.cfg.Logger.Warn("close the pipes of a program", "error", err)
		}
		if p.frames != nil {
			p.frames.flush()
		}
	}
	e.out.flushAll()
	e.mu.Lock()
	e.programs = nil // the worker alone adds, and it is here, or has ended
	e.mu.Unlock()
}

// drainLocked brings in what the processes have written so far. The pipes'
// readers need no lock of the environment but the output's.
func (e *Environment) drainLocked() {
	for _, p := range e.programs {
		p.drain()
	}
}
