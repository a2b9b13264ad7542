//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// spawner is the small process that forks every init. It is started again
// when it died; the inits it had forked died with it.
type spawner struct {
	program *os.File // firn-init
	log     *slog.Logger
	root    *template // nil where inits build their roots themselves

	mu     sync.Mutex
	closed bool
	conn   *conn
	work   sync.WaitGroup // the reader and the waiter of each
}

// child is an init that was just forked.
type child struct {
	pid   int
	pidfd int
	tree  int // its root as a detached mount, or -1
	// entered says that it is in the groups that it was to be born in.
	entered bool
}

func newSpawner(program *os.File, log *slog.Logger, root *template) *spawner {
	return &spawner{program: program, log: log, root: root}
}

// ready starts the process, unless it runs, and gives it the template.
func (s *spawner) ready(ctx context.Context) (*conn, error) {
	c, err := s.start()
	if err == nil && s.root != nil {
		err = s.root.give(ctx, c)
	}
	return c, err
}

// start makes the process, unless it runs.
func (s *spawner) start() (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errGone
	}
	if s.conn != nil {
		select {
		case <-s.conn.gone:
		default:
			return s.conn, nil
		}
	}
	sock, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	// Descriptor 4 is the program itself, so that the path is right in the
	// child whatever its number is here.
	cmd := exec.Command("/proc/self/fd/4")
	cmd.Args = []string{initName}
	cmd.Env = []string{"FIRN_ROLE=spawner", "GOMAXPROCS=2", "GOGC=off", "GOMEMLIMIT=16MiB"}
	cmd.ExtraFiles = []*os.File{theirs, s.program}
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	// Out of the terminal's reach: a Ctrl-C is for firn alone, which lets what
	// runs in the sandboxes finish.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("start the spawner: %w", err)
	}
	c := newConn(sock)
	c.onExit = func(*initproto.Exited) {}
	s.conn = c
	s.work.Go(c.serve)
	s.work.Go(func() { s.wait(cmd, c) })
	return c, nil
}

// wait reaps the process.
func (s *spawner) wait(cmd *exec.Cmd, c *conn) {
	err := cmd.Wait()
	c.close()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.log.Error("the spawner of sandboxes ended, and all sandboxes with it", "error", err)
	}
}

// spawn forks an init with the given control socket.
func (s *spawner) spawn(ctx context.Context, m *initproto.Spawn, fds ...int) (child, error) {
	c, err := s.ready(ctx)
	var r request
	if err == nil {
		r, err = c.begin(m, fds...)
	}
	if errors.Is(err, errGone) { // it died just now
		if c, err = s.ready(ctx); err == nil {
			r, err = c.begin(m, fds...)
		}
	}
	if err != nil {
		return child{}, err
	}
	// Not the caller's context: an init that is forked has to be owned.
	a, err := r.wait(context.WithoutCancel(ctx))
	if err != nil {
		return child{}, err
	}
	spawned, ok := a.m.(*initproto.Spawned)
	want := 1
	if ok && spawned.Tree {
		want = 2
	}
	if !ok || len(a.fds) != want {
		a.close()
		return child{}, errors.New("the spawner gave a wrong answer")
	}
	born := child{pid: int(spawned.PID), pidfd: a.fds[0], tree: -1, entered: spawned.Entered}
	if spawned.Tree {
		born.tree = a.fds[1]
	}
	return born, nil
}

// close ends the process and waits for it.
func (s *spawner) close() {
	s.mu.Lock()
	s.closed = true
	if s.conn != nil {
		s.conn.close()
	}
	s.mu.Unlock()
	s.work.Wait()
}
