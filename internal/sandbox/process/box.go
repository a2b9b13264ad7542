package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

const (
	// killLimit bounds the wait of Close for processes that were killed. Only
	// one that hangs in the kernel (a dead network file system) needs longer.
	killLimit = 10 * time.Second
	// killPause is the time between two looks at processes that were killed
	// and are not children of ours.
	killPause = time.Millisecond
	// freezeRounds bounds the search for processes that fork while Freeze
	// stops them. Each round stops all that it finds.
	freezeRounds = 256
)

// box is one sandbox.
type box struct {
	backend  *Backend
	spec     sandbox.Spec
	tag      tag
	dir      string
	paths    sandbox.Paths
	listener net.Listener
	apiAddr  string
	daemon   *net.UDPConn
	events   chan sandbox.Event
	close    func() error // once; later callers wait and get the same error

	// starting is held shared by Start, and exclusively by Reset and Close:
	// nothing starts while everything is being killed. Taken before mu.
	starting sync.RWMutex

	mu     sync.Mutex
	closed bool
	frozen bool
	procs  map[int]*process // started by Start and not yet reaped, by pid
	groups map[int]struct{} // groups that outlived their leader; only where host.tracks is false
	strays map[int]struct{} // stopped one by one by the present freeze
	others int              // members beyond procs at the last sample
	peak   int64            // highest sample since ResetPeak
	ended  time.Duration    // processor time of what has ended
}

func newBox(b *Backend, spec sandbox.Spec) (_ *box, err error) {
	if spec.RootDir != "" {
		return nil, sandbox.ErrNoImages
	}
	s := &box{
		backend: b,
		spec:    spec,
		events:  make(chan sandbox.Event, 4),
		procs:   make(map[int]*process),
		groups:  make(map[int]struct{}),
		strays:  make(map[int]struct{}),
	}
	if s.dir, err = os.MkdirTemp(b.dir, dirPrefix); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	s.paths = sandbox.Paths{Task: spec.TaskDir, Opt: spec.OptDir, Tmp: filepath.Join(s.dir, "tmp")}
	if err = os.Mkdir(s.paths.Tmp, 0o700); err != nil {
		return nil, err
	}
	s.paths.Lang, s.paths.Runtime = "/var/lang", "/var/runtime" // which are not there, mostly
	if spec.RuntimeDir != "" {
		s.paths.Lang = filepath.Join(spec.RuntimeDir, "var/lang")
		s.paths.Runtime = filepath.Join(spec.RuntimeDir, "var/runtime")
	}
	if s.paths.Opt == "" {
		s.paths.Opt = filepath.Join(s.dir, "opt")
		if err = os.Mkdir(s.paths.Opt, 0o500); err != nil {
			return nil, err
		}
	}
	if s.listener, s.tag, err = b.listen(); err != nil {
		return nil, err
	}
	s.apiAddr = s.listener.Addr().String()
	if s.daemon, err = listenDaemon(s.listener.Addr()); err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.close = sync.OnceValue(s.shut)
	return s, nil
}

func (s *box) Listener() net.Listener       { return s.listener }
func (s *box) APIAddr() string              { return s.apiAddr }
func (s *box) Paths() sandbox.Paths         { return s.paths }
func (s *box) Events() <-chan sandbox.Event { return s.events }
func (s *box) Close() error                 { return s.close() }

// SetCPU has no effect: without cgroups there is nothing to set.
func (s *box) SetCPU(float64) error { return s.check() }

func (s *box) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sandbox.ErrClosed
	}
	return nil
}

// Freeze stops the process groups at once and then looks for processes that
// have left them.
func (s *box) Freeze() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sandbox.ErrClosed
	}
	if s.frozen {
		return nil
	}
	s.frozen = true
	s.signalGroupsLocked(syscall.SIGSTOP)
	ended := make(map[int]bool)
	for range freezeRounds {
		members, vanished := s.membersLocked(false)
		settled := vanished == 0
		for _, m := range members {
			if m.zombie {
				// What ended a moment ago may have left a child behind that
				// this round has missed.
				settled = settled && ended[m.pid]
				ended[m.pid] = true
				s.reapedLocked(m)
				continue
			}
			if _, known := s.strays[m.pid]; known || s.procs[m.group] != nil {
				continue
			}
			settled = false
			s.strays[m.pid] = struct{}{}
			_ = syscall.Kill(m.pid, syscall.SIGSTOP) // it may have ended
		}
		if settled {
			break
		}
	}
	return nil
}

// Thaw lets everything run again.
func (s *box) Thaw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sandbox.ErrClosed
	}
	s.thawLocked()
	return nil
}

func (s *box) thawLocked() {
	if !s.frozen {
		return
	}
	s.frozen = false
	s.signalGroupsLocked(syscall.SIGCONT)
	for pid := range s.strays {
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
	}
	clear(s.strays)
}

// signalGroupsLocked signals every process group whose number cannot have been
// given to others: the leader is not reaped yet, or (where there is no better
// way) the group has outlived it.
func (s *box) signalGroupsLocked(sig syscall.Signal) {
	for pid := range s.procs {
		_ = syscall.Kill(-pid, sig) // ESRCH: the group is empty but for the ended leader
	}
	for group := range s.groups {
		if syscall.Kill(-group, sig) != nil {
			delete(s.groups, group)
		}
	}
}

// membersLocked lists the processes of the sandbox. With thorough it reads the
// whole process table, which misses nothing; without, only firn's descendants.
func (s *box) membersLocked(thorough bool) (found []member, vanished int) {
	return s.backend.host.members(s.tag, func(pid int) bool { return s.procs[pid] != nil }, thorough)
}

// Reset kills every process and waits for them to be gone.
func (s *box) Reset(ctx context.Context) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	if err := s.check(); err != nil {
		return err
	}
	if err := s.killAll(ctx); err != nil {
		return fmt.Errorf("reset sandbox %s: %w", s.spec.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = false
	clear(s.strays)
	return nil
}

// killAll returns nil when no process is left. Start cannot run meanwhile.
func (s *box) killAll(ctx context.Context) error {
	for thorough := false; ; {
		procs, alive := s.killRound(thorough)
		if len(procs) == 0 && alive == 0 {
			if thorough {
				return nil
			}
			thorough = true
			continue
		}
		for _, p := range procs {
			select {
			case <-p.done:
			case <-ctx.Done():
				return fmt.Errorf("%d processes are still ending: %w", len(procs)+alive, ctx.Err())
			}
		}
		if alive == 0 {
			continue
		}
		pause := time.NewTimer(killPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%d processes are still ending: %w", alive, ctx.Err())
		}
	}
}

// killRound kills all that it sees, reaps what has ended, and returns the
// started processes that have not been waited for and the number of others
// that were there.
func (s *box) killRound(thorough bool) (procs []*process, alive int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signalGroupsLocked(syscall.SIGKILL)
	members, vanished := s.membersLocked(thorough)
	alive = vanished // not alive, but a reason to look again, as is an ended one
	for _, m := range members {
		if s.procs[m.pid] != nil {
			continue
		}
		alive++
		if s.reapedLocked(m) {
			continue
		}
		_ = syscall.Kill(m.pid, syscall.SIGKILL) // it may have ended
	}
	alive += len(s.groups)
	for _, p := range s.procs {
		procs = append(procs, p)
	}
	return procs, alive
}

// reapedLocked collects m when it is an ended orphan that firn has inherited.
// Processes of s.procs are left to their own waiters.
func (s *box) reapedLocked(m member) bool {
	if !m.zombie || !m.inherited || s.procs[m.pid] != nil {
		return false
	}
	used, ok := s.backend.host.reap(m.pid)
	s.ended += used
	return ok
}

// shut is Close.
func (s *box) shut() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.starting.Lock() // a Start under way ends first; later ones see closed
	defer s.starting.Unlock()

	errs := []error{s.listener.Close(), s.daemon.Close()}
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	errs = append(errs, s.killAll(ctx), removeTree(s.dir))
	s.mu.Lock()
	close(s.events)
	s.mu.Unlock()
	s.backend.forget(s)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close sandbox %s: %w", s.spec.ID, err)
	}
	return nil
}

// removeTree removes dir also when a function took its own permissions away.
func removeTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(path, 0o700) // before its entries are read
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// wantsSample reports whether anything can have changed.
func (s *box) wantsSample() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && !s.frozen && len(s.procs)+s.others > 0
}

// sample reads memory, collects ended orphans, and is the watchdog.
func (s *box) sample() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	limit := int64(s.spec.MemoryMB) * firn.MiB
	members, _ := s.membersLocked(false)
	current := s.tallyLocked(members)
	if limit <= 0 || current <= limit {
		return
	}
	// Resident sizes count shared pages once per process; a function that
	// forks is not judged by that.
	if s.backend.host.proportional(members) <= limit {
		return
	}
	for _, p := range s.procs {
		p.outOfMemory = true
	}
	select {
	case s.events <- sandbox.Event{Kind: sandbox.OutOfMemory, At: time.Now()}:
	default:
	}
	s.signalGroupsLocked(syscall.SIGKILL)
	for _, m := range members {
		if s.procs[m.pid] == nil && !m.zombie {
			_ = syscall.Kill(m.pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// tallyLocked sums the resident sizes and remembers the highest.
func (s *box) tallyLocked(members []member) (current int64) {
	s.others = 0
	for _, m := range members {
		if s.reapedLocked(m) {
			continue
		}
		if s.procs[m.pid] == nil {
			s.others++
		}
		current += m.resident
	}
	s.peak = max(s.peak, current)
	return current
}

// Usage reads the figures of the processes alive.
func (s *box) Usage() (sandbox.Usage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sandbox.Usage{}, sandbox.ErrClosed
	}
	members, _ := s.membersLocked(false)
	current := s.tallyLocked(members)
	u := sandbox.Usage{Current: current}
	var highest int64
	for _, m := range members {
		highest += s.backend.host.highest(m)
	}
	u.Peak = max(s.peak, highest)
	return u, nil
}

// CPUTime is that of the processes alive and of those that have ended.
func (s *box) CPUTime() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, sandbox.ErrClosed
	}
	members, _ := s.membersLocked(false)
	used := s.ended
	for _, m := range members {
		used += m.cpu
	}
	return used, nil
}

// ResetPeak forgets the samples and the kernel's high-water marks.
func (s *box) ResetPeak() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return sandbox.ErrClosed
	}
	members, _ := s.membersLocked(false)
	s.peak = 0
	s.tallyLocked(members)
	for _, m := range members {
		s.backend.host.resetHighest(m.pid)
	}
	return nil
}
