//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/cgroup"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// apiAddr is the Runtime API's address inside every sandbox.
const apiAddr = "127.0.0.1:9001"

// box is a sandbox that belongs to a function.
type box struct {
	*blank
	spec   sandbox.Spec
	events chan sandbox.Event
	closer sync.Once
	fail   error         // of Close
	closed chan struct{} // closed when Close begins
	watch  sync.WaitGroup
	sample *sampler // nil with a memory cgroup
	reach  reach

	// starting orders Start, Reset, Freeze and Thaw: init answers only while
	// it is not frozen.
	starting sync.Mutex
	frozen   bool
	settling bool // init is on its way to rest, and freezing waits for it

	mu        sync.Mutex
	processes map[uint32]*process
	early     map[uint32]uint32 // exits whose Started is still on its way to Start
	ended     bool              // init is gone
	killing   bool              // what dies now was killed by firn
	oom       chan struct{}     // closed by the first OutOfMemory since Reset
}

var _ sandbox.Sandbox = (*box)(nil)

// assign turns a blank sandbox into the function's. On an error the blank
// still belongs to the caller.
func (b *Backend) assign(ctx context.Context, k *blank, spec sandbox.Spec) (*box, error) {
	list, fds, err := b.mounter.prepare(mountsOf(spec), k.userns)
	if err != nil {
		return nil, err
	}
	defer closeFDs(fds)
	tmp := int64(spec.EphemeralStorageMB) << 20
	r, err := k.conn.begin(&initproto.Assign{Mounts: list, TmpBytes: uint64(tmp)}, fds...)
	if err != nil {
		return nil, err
	}
	var limits error // set while init works
	if k.group != nil {
		limits = k.group.SetLimits(cgroup.Limits{
			MemoryBytes: int64(spec.MemoryMB) << 20, TmpBytes: tmp,
			// Beside the function's, init's own threads count.
			Pids: b.cfg.Processes + initThreads,
		})
		if errors.Is(limits, cgroup.ErrUnsupported) {
			limits = nil // said at start
		}
	}
	if _, err := r.wait(ctx); err != nil {
		return nil, fmt.Errorf("assign: %w", err)
	}
	if limits != nil {
		return nil, limits
	}
	_ = k.userns.Close() // nothing more is mounted
	k.userns = nil
	s := &box{
		blank: k, spec: spec, events: make(chan sandbox.Event, 8), closed: make(chan struct{}),
		processes: map[uint32]*process{}, early: map[uint32]uint32{}, oom: make(chan struct{}),
	}
	k.exits.set(s.exited)
	s.watch.Go(s.watchInit)
	if b.can.Memory {
		s.watch.Go(s.watchGroup)
	} else {
		s.sample = newSampler(s)
		s.watch.Go(s.sample.run)
	}
	return s, nil
}

// mountsOf lists what is attached to a sandbox for its function.
func mountsOf(spec sandbox.Spec) []initproto.Mount {
	var mounts []initproto.Mount
	add := func(dest, source string) {
		if source != "" {
			mounts = append(mounts, initproto.Mount{Dest: dest, Source: source})
		}
	}
	add("/var/task", spec.TaskDir)
	add("/opt", spec.OptDir)
	if spec.RuntimeDir != "" {
		add("/var/lang", filepath.Join(spec.RuntimeDir, "var/lang"))
		add("/var/runtime", filepath.Join(spec.RuntimeDir, "var/runtime"))
	}
	return mounts
}

// initThreads is room for init's own threads under the limit of processes.
const initThreads = 16

// Listener is the socket on 127.0.0.1:9001 inside.
func (s *box) Listener() net.Listener { return s.api }

// APIAddr is the same in every sandbox.
func (s *box) APIAddr() string { return apiAddr }

// Paths are the same in every sandbox.
func (s *box) Paths() sandbox.Paths {
	return sandbox.Paths{Task: "/var/task", Opt: "/opt", Lang: "/var/lang", Runtime: "/var/runtime", Tmp: "/tmp"}
}

// Start has init fork a process. A frozen sandbox is thawed.
func (s *box) Start(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	if err := cmd.Check(); err != nil {
		return nil, err
	}
	m := &initproto.Start{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Extra: uint32(len(cmd.Extra))}
	var fds []int
	if cmd.Stdout != nil {
		m.Stdout = true
		fds = append(fds, int(cmd.Stdout.Fd()))
	}
	if cmd.Stderr != nil {
		m.Stderr = true
		fds = append(fds, int(cmd.Stderr.Fd()))
	}
	for _, f := range cmd.Extra {
		fds = append(fds, int(f.Fd()))
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	if err := s.thawLocked(); err != nil {
		return nil, err
	}
	a, err := s.conn.call(ctx, m, fds...)
	if err != nil {
		if errors.Is(err, syscall.E2BIG) {
			err = &sandbox.StartError{Path: cmd.Path, Err: syscall.E2BIG}
		}
		return nil, s.explain("start", err)
	}
	started, ok := a.m.(*initproto.Started)
	if !ok {
		return nil, s.explain("start", errors.New("init gave a wrong answer"))
	}
	if started.Errno != 0 {
		return nil, &sandbox.StartError{Path: cmd.Path, Err: syscall.Errno(started.Errno), BadDir: started.BadDir}
	}
	p := &process{box: s, pid: started.PID, done: make(chan struct{})}
	s.adopt(p)
	return p, nil
}

// explain tells a closed sandbox from a broken one.
func (s *box) explain(doing string, err error) error {
	select {
	case <-s.closed:
		return sandbox.ErrClosed
	default:
	}
	return fmt.Errorf("sandbox %s: %s: %w", s.spec.ID, doing, err)
}

// SetCPU does nothing where there is no processor controller, as was said in
// the log at start.
func (s *box) SetCPU(vcpus float64) error {
	if s.isClosed() {
		return sandbox.ErrClosed
	}
	if !s.b.can.CPU {
		return nil
	}
	return s.group.SetCPU(vcpus)
}

// Freeze stops all processes: by the kernel, init included, or by signals.
func (s *box) Freeze() error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.isClosed() {
		return sandbox.ErrClosed
	}
	if s.frozen {
		return nil
	}
	s.frozen = true
	if s.b.can.Freeze {
		return s.freezeLocked()
	}
	return s.explainNil("freeze", s.conn.send(&initproto.SignalAll{Signal: uint32(syscall.SIGSTOP)}))
}

// freezeLocked freezes by the kernel, at once or when init rests.
func (s *box) freezeLocked() error {
	if s.settling || s.restLocked() {
		return nil
	}
	return s.group.Freeze()
}

// restLimit bounds the wait for init to rest, which takes 2 ms on a healthy
// host. Frozen half way, it goes on when it is thawed.
const restLimit = time.Second

// restLocked has init give its memory back before it is frozen, unless it has
// done so and nothing woke it since; it reports whether that was begun. Where
// memory is sampled init is woken all the time. A rest takes 1 ms of processor,
// and does as well after the next invocation when others wait for sandboxes.
func (s *box) restLocked() bool {
	if s.sample != nil || s.b.crowded() || !s.conn.awake.CompareAndSwap(true, false) {
		return false
	}
	select {
	case <-s.conn.rested: // a late one
	default:
	}
	if s.conn.send(&initproto.Rest{}) != nil {
		return false
	}
	s.settling = true
	s.watch.Go(s.freezeRested)
	return true
}

// freezeRested does what Freeze put off, if it is still wanted.
func (s *box) freezeRested() {
	limit := time.NewTimer(restLimit)
	defer limit.Stop()
	select {
	case <-s.conn.rested:
	case <-s.conn.gone:
	case <-limit.C:
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	s.settling = false
	if !s.frozen || s.isClosed() {
		return
	}
	if err := s.freezeLocked(); err != nil {
		s.b.log.Error("freeze", "sandbox", s.spec.ID, "error", err)
	}
}

// Thaw undoes Freeze.
func (s *box) Thaw() error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.isClosed() {
		return sandbox.ErrClosed
	}
	return s.thawLocked()
}

func (s *box) thawLocked() error {
	if !s.frozen {
		return nil
	}
	s.frozen = false
	if s.sample != nil {
		s.sample.wake()
	}
	if s.b.can.Freeze {
		return s.group.Thaw()
	}
	return s.explainNil("thaw", s.conn.send(&initproto.SignalAll{Signal: uint32(syscall.SIGCONT)}))
}

func (s *box) isFrozen() bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	return s.frozen
}

func (s *box) explainNil(doing string, err error) error {
	if err == nil {
		return nil
	}
	return s.explain(doing, err)
}

// Usage reads the control group, or the last sample.
func (s *box) Usage() (sandbox.Usage, error) {
	if s.isClosed() {
		return sandbox.Usage{}, sandbox.ErrClosed
	}
	var u sandbox.Usage
	if s.group != nil {
		g, err := s.group.Usage()
		if err != nil && !errors.Is(err, cgroup.ErrUnsupported) {
			return u, err
		}
		u = sandbox.Usage{Current: g.Current, Peak: g.Peak}
	}
	if s.sample != nil {
		s.sample.look()
		seen := s.sample.figures()
		u.Current, u.Peak = seen.Current, seen.Peak
	}
	return u, nil
}

// CPUTime reads the control group, or the last sample.
func (s *box) CPUTime() (time.Duration, error) {
	if s.isClosed() {
		return 0, sandbox.ErrClosed
	}
	if s.group != nil && s.b.can.CPUTime {
		return s.group.CPUTime()
	}
	if s.sample == nil {
		return 0, nil
	}
	s.sample.look()
	return s.sample.cpuTime(), nil
}

// ResetPeak begins a new peak.
func (s *box) ResetPeak() error {
	if s.isClosed() {
		return sandbox.ErrClosed
	}
	if s.sample != nil {
		s.sample.resetPeak()
		return nil
	}
	return s.group.ResetPeak()
}

// Events delivers OutOfMemory.
func (s *box) Events() <-chan sandbox.Event { return s.events }

// Reset has init kill everything but itself. A frozen sandbox is thawed.
func (s *box) Reset(ctx context.Context) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	s.setKilling(true)
	defer s.setKilling(false)
	// Killed first, thawed then: the function gets nothing done in between.
	r, err := s.conn.begin(&initproto.Reset{})
	if err != nil {
		return s.explain("reset", err)
	}
	if err := s.thawLocked(); err != nil {
		return err
	}
	if _, err = r.wait(ctx); err != nil {
		return s.explain("reset", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.oom:
		s.oom = make(chan struct{})
	default:
	}
	return nil
}

func (s *box) setKilling(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killing = v
}

func (s *box) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Close kills everything. What the kernel takes long to release (network
// namespace, control groups) is waited for by the backend's Close.
func (s *box) Close() error {
	s.closer.Do(func() {
		close(s.closed)
		s.setKilling(true)
		_ = s.api.Close()
		s.reach.close()
		s.fail = s.kill()
		s.b.work.Go(func() {
			if err := s.release(); err != nil {
				s.b.log.Error("a sandbox was not released in full", "sandbox", s.spec.ID, "error", err)
			}
			s.watch.Wait()
			close(s.events)
			s.b.forget(s)
		})
		// Every process is reported dead before Close returns.
		<-s.conn.gone
		s.endAll()
	})
	return s.fail
}

// watchInit notices the end of init, by whomever.
func (s *box) watchInit() {
	<-s.conn.gone
	if !s.isClosed() {
		s.b.log.Warn("the init of a sandbox ended", "sandbox", s.spec.ID)
	}
	s.endAll()
}

// watchGroup passes the group's events on.
func (s *box) watchGroup() {
	for ev := range s.group.Events() {
		if ev.Kind == sandbox.OutOfMemory {
			s.outOfMemory(ev.At)
		}
	}
}

func (s *box) outOfMemory(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.oom:
	default:
		close(s.oom)
	}
	select {
	case s.events <- sandbox.Event{Kind: sandbox.OutOfMemory, At: at}:
	default:
	}
}
