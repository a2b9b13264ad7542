package runtimes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Progress is how far a build or pull has come.
type Progress struct {
	Step, Steps int    // from 1
	Text        string // what is being done
	// While layers of an image come: bytes of them, with what was there
	// before, and their number. Total is 0 before and afterwards.
	Done, Total int64
	Layers      int
}

// Options are the choices of a build. The zero value is the usual one.
type Options struct {
	// Interpreter is the program (python3.13, node) or the JDK's directory to
	// copy; "" looks for one.
	Interpreter string
	// NoSDK leaves out the AWS SDK that AWS puts into Python's and Node.js's
	// runtimes.
	NoSDK bool
	// Progress is told of each step before it is done; nil tells nobody.
	Progress func(Progress)
}

// ErrUnbuildable says that a runtime cannot be put together from what a host
// has: no runtime interface client is published for it in a form that needs
// nothing else, or the platform has none.
var ErrUnbuildable = errors.New("cannot be built from the host's interpreter")

// NeedError says what a build lacks on this host.
type NeedError struct{ What string }

// Error tells what to install.
func (e *NeedError) Error() string { return "this build needs " + e.What }

// build is one build under way.
type build struct {
	Runtime
	Options
	ctx   context.Context
	root  string // of the tree
	work  string // everything else that is not kept
	cache string // of the store
	step  int
	steps int
	m     Manifest

	python pythonFacts // of findPython
	node   nodeFacts   // of findNode
	jdk    string      // of findJDK
}

// Builder makes the tree of a family: its steps, in order.
type step struct {
	text string
	do   func(*build) error
}

// Build makes a runtime and puts it in the place of the one that the store has.
// It needs the network, and takes from seconds to a few minutes. A build that
// was interrupted begins again with what it had brought and compiled. Errors:
// ErrUnbuildable, *NeedError, or what the language's own tools have said.
func (s *Store) Build(ctx context.Context, name string, opt Options) (Manifest, error) {
	m, err := s.build(ctx, name, opt)
	if err != nil {
		return m, fmt.Errorf("build runtime %s: %w", name, err)
	}
	return m, nil
}

func (s *Store) build(ctx context.Context, name string, opt Options) (Manifest, error) {
	r, ok := Lookup(name)
	if !ok {
		return Manifest{}, errors.New("there is no such runtime")
	}
	steps, err := stepsOf(r)
	if err != nil {
		return Manifest{}, err
	}
	work := s.work(name)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return Manifest{}, err
	}
	lock, err := s.lock(name, "another build or pull of it is under way")
	if err != nil {
		return Manifest{}, err
	}
	defer lock.Close()
	b := &build{
		Runtime: r, Options: opt, ctx: ctx, work: work, root: filepath.Join(work, "root"),
		cache: filepath.Join(s.dir, "cache"), steps: len(steps) + 1, m: Manifest{Name: name, Origin: Built},
	}
	if err := b.clear(); err != nil {
		return Manifest{}, err
	}
	for _, st := range steps {
		b.tell(st.text)
		if err := st.do(b); err != nil {
			return Manifest{}, fmt.Errorf("%s: %w", st.text, errors.Join(err, ctx.Err()))
		}
	}
	b.tell("installing")
	sum, err := seal(ctx, b.root)
	if err != nil {
		return Manifest{}, err
	}
	b.m.Digest, b.m.Bytes, b.m.Files, b.m.Made = sum.digest, sum.bytes, sum.files, time.Now().UTC().Truncate(time.Second)
	before, _ := s.manifest(name) // none is no image either
	if err := s.install(b.root, b.m); err != nil {
		return Manifest{}, err
	}
	if before.Whole {
		err = s.forget(ctx, before.Digest)
	}
	return b.m, errors.Join(err, os.RemoveAll(work))
}

// stepsOf is how a family is built.
func stepsOf(r Runtime) ([]step, error) {
	switch r.Family {
	case Python:
		return pythonSteps(), nil
	case Nodejs:
		return nodeSteps(), nil
	case Java:
		return javaSteps(), nil
	case Ruby, Dotnet:
		return nil, fmt.Errorf("%w: its base image brings it (%s)", ErrUnbuildable, r.BaseImage())
	case Provided:
		return nil, fmt.Errorf("%w, and need not be: functions bring their own", ErrUnbuildable)
	}
	return nil, fmt.Errorf("%w: AWS has withdrawn it; use provided.al2023", ErrUnbuildable)
}

func (b *build) tell(text string) {
	b.step++
	if b.Progress != nil {
		b.Progress(Progress{Step: b.step, Steps: b.steps, Text: text})
	}
}

// clear removes what an interrupted build has left.
func (b *build) clear() error {
	if err := os.RemoveAll(b.work); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(b.root, "var/runtime"), 0o755)
}

func (b *build) lang(parts ...string) string {
	return filepath.Join(append([]string{b.root, "var/lang"}, parts...)...)
}

func (b *build) client(parts ...string) string {
	return filepath.Join(append([]string{b.root, "var/runtime"}, parts...)...)
}

// command is a program of the host to run in dir, with extra variables.
type command struct {
	dir  string
	env  []string
	argv []string
}

// outputKept is how much of the end of a program's output an error shows.
const outputKept = 2 << 10

// run runs a program to its end and returns its standard output. An error has
// the end of all that it has written. The program's children end with it.
func (b *build) run(c command) (string, error) {
	cmd := exec.CommandContext(b.ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = b.work
	}
	cmd.Env = append(hostVariables(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	var all ending
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, &all), &all
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(string(all.kept))
		if len(text) > outputKept {
			text = "..." + text[len(text)-outputKept:]
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(c.argv, " "), err, text)
	}
	return out.String(), nil
}

// ending keeps the end of what is written to it, by several writers at once.
type ending struct {
	mu   sync.Mutex
	kept []byte
}

func (e *ending) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept = append(e.kept, p...)
	if over := len(e.kept) - 2*outputKept; over > 0 {
		e.kept = append(e.kept[:0], e.kept[over:]...)
	}
	return len(p), nil
}

// hostVariables is the environment for programs of the host, less what would
// lead an interpreter to other files than its own, or have every shell of a
// build do something first.
func hostVariables() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYENV_VERSION", "NODE_PATH", "NODE_OPTIONS", "CLASSPATH",
			"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "LD_LIBRARY_PATH", "LD_PRELOAD", "BASH_ENV", "ENV":
			return true
		}
		return strings.HasPrefix(name, "npm_config_ignore")
	})
}

// need checks that programs are there, and says which are not.
func need(why string, programs ...string) error {
	var lacking []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking = append(lacking, p)
		}
	}
	if len(lacking) > 0 {
		return &NeedError{What: strings.Join(lacking, ", ") + " " + why}
	}
	return nil
}

// writeScript writes the start command.
func (b *build) writeScript(text string) error {
	shell := "/bin/sh"
	if _, err := os.Stat("/bin/bash"); err == nil {
		shell = "/bin/bash" // as on AWS, where PWD and SHLVL tell
	}
	return os.WriteFile(b.client("bootstrap"), []byte("#!"+shell+"\n"+text), 0o755)
}

// nodeArchitecture is the host's in the words of npm.
func nodeArchitecture() string {
	if runtime.GOARCH == "amd64" {
		return "x64"
	}
	return runtime.GOARCH
}
