package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
)

// busyLimit bounds the retries of a program that the kernel calls busy. The
// writer is another fork of firn that holds an inherited descriptor between
// its fork and its exec, so it is over in a moment (golang.org/issue/22315).
const busyLimit = 200 * time.Millisecond

// process is one program started by Start.
type process struct {
	os   *os.Process
	done chan struct{}
	exit sandbox.Exit // valid when done is closed

	outOfMemory bool // guarded by the box's mu: the watchdog has killed it
}

func (p *process) Signal(sig syscall.Signal) error { return p.os.Signal(sig) }
func (p *process) Done() <-chan struct{}           { return p.done }
func (p *process) Exit() sandbox.Exit              { return p.exit }

// Start runs cmd as a child of firn. TMPDIR is added to the environment when
// it is missing, because the sandbox's /tmp is not the host's.
func (s *box) Start(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := cmd.Check(); err != nil {
		return nil, err
	}
	s.starting.RLock()
	defer s.starting.RUnlock()
	if err := s.check(); err != nil {
		return nil, err
	}
	attr := &os.ProcAttr{
		Dir:   cmd.Dir,
		Env:   s.environment(cmd.Env),
		Files: []*os.File{s.backend.null, s.backend.null, s.backend.null},
		Sys:   s.backend.host.childAttr(),
	}
	if attr.Dir == "" {
		attr.Dir = s.paths.Task
	}
	if cmd.Stdout != nil {
		attr.Files[1] = cmd.Stdout
	}
	if cmd.Stderr != nil {
		attr.Files[2] = cmd.Stderr
	}
	attr.Files = append(attr.Files, cmd.Extra...)
	p := &process{done: make(chan struct{})}
	job := spawnJob{path: cmd.Path, args: cmd.Args, attr: attr, ready: func(pid int) { s.enter(pid, p) }}
	child, err := s.spawn(ctx, job)
	if err != nil {
		return nil, err
	}
	p.os = child
	go s.wait(p)
	return p, nil
}

// enter makes pid a process of the sandbox. It is in procs before it carries
// the tag, so that the sampler never reaps it in the place of wait.
func (s *box) enter(pid int, p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[pid] = p
	s.backend.host.adopt(pid, s.tag)
	if s.frozen {
		_ = syscall.Kill(-pid, syscall.SIGSTOP) // it may have ended
	}
}

func (s *box) environment(env []string) []string {
	out := make([]string, 0, len(env)+1)
	hasTmp := false
	for _, kv := range env {
		hasTmp = hasTmp || strings.HasPrefix(kv, "TMPDIR=")
		out = append(out, kv)
	}
	if !hasTmp {
		out = append(out, "TMPDIR="+s.paths.Tmp)
	}
	return out
}

func (s *box) spawn(ctx context.Context, job spawnJob) (*os.Process, error) {
	giveUp := time.Now().Add(busyLimit)
	for pause := time.Millisecond; ; pause *= 2 {
		child, err := s.backend.spawner.start(job)
		if err == nil {
			return child, nil
		}
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(giveUp) {
			return nil, startError(job.path, job.attr.Dir, err)
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
	}
}

// startError tells a program that cannot be executed from a host that cannot
// start any, and finds out which of program and directory was at fault.
func startError(path, dir string, err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return fmt.Errorf("start %s: %w", path, err)
	}
	switch errno {
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		return fmt.Errorf("start %s: %w", path, errno)
	}
	if dirErr := checkDir(dir); dirErr != nil {
		return &sandbox.StartError{Path: path, Err: dirErr, BadDir: true}
	}
	return &sandbox.StartError{Path: path, Err: errno}
}

// checkDir returns the reason why a process cannot change to dir, or nil.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return syscall.ENOTDIR
	}
	if err == nil {
		err = unix.Access(dir, unix.X_OK)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// wait reaps p and publishes how it ended. It ends with the process, which
// Reset and Close see to.
func (s *box) wait(p *process) {
	state, err := p.os.Wait()
	at := time.Now()

	s.mu.Lock()
	defer s.mu.Unlock()
	pid := p.os.Pid
	delete(s.procs, pid)
	if !s.backend.host.tracks() && syscall.Kill(-pid, 0) == nil {
		s.groups[pid] = struct{}{}
	}
	p.exit = sandbox.Exit{At: at}
	status, ok := syscall.WaitStatus(0), false
	if err == nil {
		status, ok = state.Sys().(syscall.WaitStatus)
	}
	switch {
	case !ok: // somebody else reaped it; that it is gone is all that is known
		p.exit.Signal = syscall.SIGKILL
	case status.Signaled():
		p.exit.Signal = status.Signal()
	default:
		p.exit.Code = status.ExitStatus()
	}
	p.exit.OutOfMemory = p.outOfMemory && p.exit.Signal == syscall.SIGKILL
	if state != nil {
		s.ended += state.UserTime() + state.SystemTime()
	}
	s.others++ // it may have left children: one more sample finds out
	close(p.done)
}
