// Package statetest is what a store means: Run is the conformance suite that
// every engine of package state passes, with its process killed between the
// steps and in the midst of them, and Open gives other packages' tests a
// store of their own.
//
// The test binary plays the process that is killed, so a package that calls
// Run gives it its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(statetest.Main(m, open)) }
package statetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/firn-run/firn/internal/state"
)

// step is one part of a script. It may rely on what earlier steps did to the
// store and on what they left in memo, and on nothing else: another process
// may run each.
type step func(ctx context.Context, s *state.Store, memo map[string]int64) error

// script is a contract in steps.
type script struct {
	name  string
	steps []step
}

// Environment variables that make the test binary a child.
const (
	envRole = "FIRN_STATETEST_ROLE" // "step" or "writer"
	envArgs = "FIRN_STATETEST_ARGS" // JSON of childArgs
)

type childArgs struct {
	Dir    string
	Script string
	Step   int
	Memo   map[string]int64
	// Of the writer:
	Writers int
}

// Main runs the tests, or the part of a child when a test started it so. Its
// result is the exit code.
func Main(m *testing.M, open OpenFunc) int {
	role := os.Getenv(envRole)
	if role == "" {
		return m.Run()
	}
	if err := child(role, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func child(role string, open OpenFunc) error {
	var args childArgs
	if err := json.Unmarshal([]byte(os.Getenv(envArgs)), &args); err != nil {
		return err
	}
	ctx := context.Background()
	s, end, err := open(ctx, args.Dir)
	if err != nil {
		return err
	}
	if role == "writer" {
		return errors.Join(write(ctx, s, args.Writers, os.Stdout), end())
	}
	for _, sc := range scripts() {
		if sc.name != args.Script {
			continue
		}
		if err := sc.steps[args.Step](ctx, s, args.Memo); err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(args.Memo); err != nil {
			return err
		}
		// To be killed here, with everything open. Should the parent die
		// first, its end of the pipe closes.
		_, err := io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, errors.New("the parent did not kill this"))
	}
	return fmt.Errorf("no script %q", args.Script)
}

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *capped
}

// capped keeps the beginning of what is written to it.
type capped struct{ b []byte }

func (c *capped) Write(p []byte) (int, error) {
	c.b = append(c.b, p[:min(len(p), 4096-len(c.b))]...)
	return len(p), nil
}

func startChild(t *testing.T, role string, args childArgs) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	js, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.CommandContext(t.Context(), exe), stderr: &capped{}}
	p.cmd.Env = append(os.Environ(), envRole+"="+role, envArgs+"="+string(js))
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the child by SIGKILL and waits until the kernel has let go of
// all it held. What it wrote before is read by the caller before.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	err := p.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
		t.Fatalf("child ended by itself before the kill: %v\n%s", err, p.stderr.b)
	}
}

// Run runs the suite.
func Run(t *testing.T, open OpenFunc) {
	for _, sc := range scripts() {
		t.Run(sc.name, func(t *testing.T) {
			t.Run("straight", func(t *testing.T) { runStraight(t, open, sc) })
			t.Run("reopened", func(t *testing.T) { runReopened(t, open, sc) })
			t.Run("killed", func(t *testing.T) { runKilled(t, sc) })
		})
	}
	t.Run("kill", func(t *testing.T) { testKill(t, open) })
	for _, l := range live() {
		t.Run(l.name, func(t *testing.T) {
			s, end, err := open(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := end(); err != nil {
					t.Error(err)
				}
			}()
			l.test(t, s)
		})
	}
	t.Run("model", func(t *testing.T) { testModel(t, open) })
}

func runStraight(t *testing.T, open OpenFunc, sc script) {
	s, end, err := open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	memo := map[string]int64{}
	for i, step := range sc.steps {
		if err := step(t.Context(), s, memo); err != nil {
			t.Errorf("step %d: %v", i, err)
			break
		}
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

func runReopened(t *testing.T, open OpenFunc, sc script) {
	dir, memo := t.TempDir(), map[string]int64{}
	for i, step := range sc.steps {
		s, end, err := open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		err = step(t.Context(), s, memo)
		if err := errors.Join(err, end()); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

func runKilled(t *testing.T, sc script) {
	dir, memo := t.TempDir(), map[string]int64{}
	for i := range sc.steps {
		p := startChild(t, "step", childArgs{Dir: dir, Script: sc.name, Step: i, Memo: memo})
		if err := json.NewDecoder(p.stdout).Decode(&memo); err != nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
			t.Fatalf("step %d: %v\n%s", i, err, p.stderr.b)
		}
		p.kill(t)
	}
}
