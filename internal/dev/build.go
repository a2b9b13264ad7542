package dev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
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

// inputs tells saves from what a build writes into the folder that it is built
// from. A file that changes while a build runs is a save, unless it did so in
// an earlier build: so the compiler's output is the reason for one more build,
// once, and a save is the reason for one whenever it comes.
type inputs struct {
	source  source
	files   contents
	outputs map[string]bool
}

// newInputs is for a build that writes into its own folder; nil otherwise.
func (p *Project) newInputs() *inputs {
	if p.Build == "" || p.layout != plain || p.code != "" && p.code != p.Folder {
		return nil
	}
	skip := func(path, _ string) bool { c, _ := p.watched(path); return c != classCode }
	return &inputs{source: source{from: p.Folder, skip: skip}, outputs: map[string]bool{}}
}

// saved says whether anything at paths (nil: anywhere) is other than the last
// build has left it.
func (in *inputs) saved(paths []string) bool {
	if in == nil {
		return true
	}
	now, changed, err := scan([]source{in.source}, in.files, paths)
	if err != nil {
		return true
	}
	in.files = now
	// A package manager's work is noticed by its folder, and not looked at.
	unseen := func(path string) bool { return in.source.skip(path, "") }
	return len(changed) > 0 || slices.ContainsFunc(paths, unseen)
}

// built takes what the build has changed for its output; with all, whatever
// that is, since nobody was there to save.
func (in *inputs) built(all bool) {
	if in == nil {
		return
	}
	now, changed, err := scan([]source{in.source}, in.files, nil)
	if err != nil {
		return
	}
	for _, name := range changed {
		if all {
			in.outputs[name] = true
		}
		if !in.outputs[name] {
			in.outputs[name] = true
			if old, had := in.files[name]; had {
				now[name] = old
			} else {
				delete(now, name)
			}
		}
	}
	in.files = now
}
