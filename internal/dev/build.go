package dev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// buildError is a build that failed, with what it wrote.
type buildError struct {
	err    error
	output string
}

func (e *buildError) Error() string { return strings.TrimSpace(e.err.Error() + "\n" + e.output) }

// maxBuildOutput bounds what is kept of a build's output: its end.
const maxBuildOutput = 16 << 10

// build runs the build, if there is one.
func (p *Project) build(ctx context.Context) (took time.Duration, err error) {
	if p.Build == "" {
		return 0, nil
	}
	if err := os.MkdirAll(p.buildDir(), 0o755); err != nil {
		return 0, err
	}
	out := &tail{}
	cmd := exec.CommandContext(ctx, "sh", "-c", p.Build)
	cmd.Dir = p.Folder
	cmd.Env = append(os.Environ(), "FIRN_BUILD="+p.buildDir())
	cmd.Stdout, cmd.Stderr = out, out
	// The build's children end with it, whatever it leaves to them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	begin := time.Now()
	err = cmd.Run()
	took = time.Since(begin)
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return took, &buildError{err: err, output: out.String()}
	}
	return took, nil
}

// tail keeps the end of what is written.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > maxBuildOutput {
		p = p[len(p)-maxBuildOutput:]
	}
	if over := t.buf.Len() + len(p) - maxBuildOutput; over > 0 {
		t.buf.Next(over)
	}
	t.buf.Write(p)
	return n, nil
}

func (t *tail) String() string { return t.buf.String() }
