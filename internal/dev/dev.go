// Package dev runs one function out of a folder that is being edited: it finds
// out what the folder holds, starts a node of its own, and replaces the code at
// each save, so that the next invocation runs what the editor shows.
//
// It is a client of firn like any other, but for one thing: environments of
// the function do not run from an unpacked archive. They run from a tree that
// this package keeps, a copy of the folder as it was at one moment (trees), and
// never from the folder itself, in which an editor may be in the middle of a
// file. A reload is: the saves are over (watcher), the build if there is one
// (project), the next tree, and one change of the function's description, which
// retires its environments as any change of a configuration does. Whatever
// fails on the way leaves the code as it was.
//
// With a debugger, the port of the language's own debug server inside the
// newest environment is forwarded to the host, and the clock of time limits
// stands still as long as somebody is connected (debugger).
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
)

// Config says what to develop and how. Only Folder, Out and Server.DataDir have
// no default.
type Config struct {
	Folder string
	// Name of the function; default: the folder's.
	Name string
	// Runtime and Handler as in CreateFunction; default: what Detect finds.
	Runtime, Handler string
	// Installed are the names of the managed runtimes at hand, which Detect
	// prefers.
	Installed []string
	Variables map[string]string // the function's environment variables
	// Layers are folders, .zip archives and, as external extensions, single
	// executable files.
	Layers   []string
	MemoryMB int           // default 512
	Timeout  time.Duration // whole seconds; default 30
	// Build is a command for the shell, run in Folder before each reload;
	// default: what Detect finds, mostly none.
	Build string
	// Code is the folder that holds what an archive for Lambda would; default
	// Folder, or where the build puts it. Relative to Folder.
	Code string
	// Event is a file with the event that each reload sends; "" sends none.
	Event string
	// DebugPort is the port of 127.0.0.1 for a debugger; 0 is the language's
	// usual one with Debug, else there is none.
	Debug     bool
	DebugPort int

	// Server is the node. Sink, Environment and Logger are set here.
	Server server.Config
	Out    io.Writer
	Style  telemetry.Style
	// Input sends an event at each line: the line itself if it is JSON, else
	// the last one again. Run closes it; nil for none.
	Input io.ReadCloser
	// Greet writes how to reach the node, once it serves; nil for nobody.
	Greet  func(out io.Writer, srv *server.Server) error
	Hurry  func(srv *server.Server) (undo func()) // see server.Server.Hurry; nil for nobody
	Logger *slog.Logger
}

// Run serves until ctx ends. The error is nil then; one of the node or of the
// first steps otherwise.
func Run(ctx context.Context, cfg Config) error {
	s, err := newSession(cfg)
	if err != nil {
		return err
	}
	defer s.close()
	watch, err := newWatcher(s.project.Folder, s.project.watched)
	if err != nil {
		return err
	}
	defer watch.close()
	s.poll = watch.polls()
	s.code(ctx) // before the node serves: what fails is shown and tried again at the next save

	node, err := s.serve(ctx)
	if err != nil {
		return err
	}
	s.sweep() // the data directory is ours: what lies beside our work is of firns that were killed
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return node.wait(working) })
	group.Go(func() error { return watch.run(working) })
	if s.debugger != nil {
		group.Go(func() error { return s.debugger.run(working) })
	}
	sends := s.sends(working, group)
	group.Go(func() error { return s.loop(working, watch.batches, sends) })
	err = group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, node.close())
}

// session is one run of one function.
type session struct {
	cfg      Config
	project  Project
	trees    *trees
	inputs   *inputs // or nil
	screen   *screen
	debugger *debugger // or nil
	client   client    // set by serve
	poll     string    // why the folder is polled; "" when it is watched

	reloads int
	event   []byte // the last that was sent
}

func newSession(cfg Config) (_ *session, err error) {
	if cfg.MemoryMB <= 0 {
		cfg.MemoryMB = 512
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	data, err := filepath.Abs(cfg.Server.DataDir)
	if err != nil {
		return nil, err
	}
	cfg.Server.DataDir = data
	s := &session{cfg: cfg, event: []byte("{}")}
	if s.project, err = detect(cfg); err != nil {
		return nil, err
	}
	s.screen = newScreen(cfg.Out, cfg.Style)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// open makes what is on disk and on the network, in a folder of this session's
// own: whether the data directory is, is known when the node serves.
func (s *session) open() (err error) {
	work := s.works()
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if s.project.Work, err = os.MkdirTemp(work, "session-"); err != nil {
		return err
	}
	s.trees = &trees{dir: filepath.Join(s.project.Work, "trees"), sources: s.project.sources()}
	if err := s.trees.open(); err != nil {
		return err
	}
	s.inputs = s.project.newInputs()
	if !s.cfg.Debug && s.cfg.DebugPort == 0 {
		return nil
	}
	if s.debugger, err = newDebugger(s.project.Runtime, s.cfg.DebugPort); err != nil {
		return err
	}
	s.debugger.tell = s.screen.note
	s.cfg.Server.FreezeGrace = -1 // a frozen process answers no debugger
	if s.debugger.family == runtimes.Python {
		hook, err := writePythonHook(filepath.Join(s.project.Work, "python"))
		if err != nil {
			return err
		}
		s.trees.sources = append(s.trees.sources, hook)
	}
	return s.debugger.listen()
}

// works is the folder of sessions' folders.
func (s *session) works() string { return filepath.Join(s.cfg.Server.DataDir, "dev") }

func (s *session) close() error {
	var err error
	if s.debugger != nil {
		err = s.debugger.close()
	}
	if s.project.Work != "" {
		err = errors.Join(err, os.RemoveAll(s.project.Work))
	}
	return err
}

// sweep removes the folders of other sessions, which have ended.
func (s *session) sweep() {
	list, err := os.ReadDir(s.works())
	if err != nil {
		return
	}
	for _, e := range list {
		if dir := filepath.Join(s.works(), e.Name()); dir != s.project.Work {
			os.RemoveAll(dir)
		}
	}
}

// loop reloads and sends events, one thing at a time.
func (s *session) loop(ctx context.Context, batches <-chan batch, sends <-chan []byte) error {
	s.trees.prepare()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-batches:
			if err := s.reload(ctx, b); err != nil {
				return err
			}
			s.trees.prepare()
		case event := <-sends:
			if event != nil {
				s.event = event
			}
			s.send(ctx, time.Time{})
		}
	}
}

// code builds and makes the first tree.
func (s *session) code(ctx context.Context) {
	if took, err := s.project.build(ctx); err != nil {
		s.screen.buildFailed(err, took, false)
	}
	s.inputs.built(true)
	if _, err := s.trees.next(nil); err != nil {
		s.screen.reloadFailed(err)
	}
	if bytes := s.trees.size(); bytes > maxUnzipped {
		s.screen.note(fmt.Sprintf("the code is %d MB: AWS takes 250 MB unzipped at most, layers included", bytes>>20))
	}
}

// maxUnzipped is AWS's limit for code and layers.
const maxUnzipped = 250 << 20

// reload replaces the code. Errors of the user's making are shown and are not
// its own.
func (s *session) reload(ctx context.Context, b batch) error {
	paths := b.paths
	if b.all {
		paths = nil
	}
	var built time.Duration
	if s.project.Build != "" {
		if !s.inputs.saved(paths) {
			return nil
		}
		took, err := s.project.build(ctx)
		s.inputs.built(false)
		built = took
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.screen.buildFailed(err, took, true)
			return nil
		}
		paths = nil // what the build has changed is looked for
	}
	changed, err := s.trees.settled(ctx, paths)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.screen.reloadFailed(err)
		return nil
	case len(changed) == 0:
		return nil
	}
	s.reloads++
	if err := s.client.retire(ctx, s.reloads); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.screen.reloadFailed(err)
		return nil
	}
	s.screen.reloaded(reload{n: s.reloads, changed: changed, built: built, took: time.Since(b.first)})
	if s.cfg.Event != "" {
		s.send(ctx, b.first)
	}
	return nil
}

// send invokes the function and shows its answer; saved is the time of the
// save that it is about, or zero.
func (s *session) send(ctx context.Context, saved time.Time) {
	if s.cfg.Event != "" && (!saved.IsZero() || string(s.event) == "{}") {
		event, err := os.ReadFile(s.cfg.Event)
		if err != nil {
			s.screen.note(err.Error())
			return
		}
		s.event = event
	}
	begin := time.Now()
	answer, failed, err := s.client.invoke(ctx, s.event)
	if ctx.Err() != nil {
		return
	}
	a := shown{answer: answer, failed: failed, err: err, took: time.Since(begin)}
	if !saved.IsZero() {
		a.sinceSave = time.Since(saved)
	}
	s.screen.answered(a)
}

// sends reads the input, line by line.
func (s *session) sends(ctx context.Context, group *errgroup.Group) <-chan []byte {
	in := s.cfg.Input
	if in == nil {
		return nil
	}
	out := make(chan []byte)
	var once sync.Once
	end := func() { once.Do(func() { in.Close() }) }
	context.AfterFunc(ctx, end)
	group.Go(func() error {
		defer end()
		readEvents(ctx, in, out, s.screen.note)
		return nil
	})
	return out
}
