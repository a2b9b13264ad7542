//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/cgroup"
	"github.com/firn-run/firn/internal/sandbox/linux/confine"
	"github.com/firn-run/firn/internal/sandbox/linux/egress"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// Backend is the linux backend. Its methods are those of sandbox.Backend.
type Backend struct {
	cfg        Config
	log        *slog.Logger
	privileged bool // has rights over other user ids and the host's mounts
	uid, gid   int
	program    *os.File
	spawner    *spawner
	cgroups    *cgroup.Manager // nil where the host offers none
	can        cgroup.Can
	system     systemFiles
	mounter    mounter
	filter     confine.Program
	slots      *slots
	claims     *claims
	pool       *pool // nil without one

	creating atomic.Int32 // sandboxes that callers of Create wait for

	work sync.WaitGroup // goroutines of sandboxes being released
	once sync.Once      // of Close
	fail error          // of Close

	mu     sync.Mutex
	closed bool
	live   map[*box]struct{}
	making sync.WaitGroup // Creates under way; Add under mu while !closed
}

var _ sandbox.Backend = (*Backend)(nil)

// New starts the spawner and, behind the caller's back, fills the pool. It
// fails when the host cannot give what cfg asks for; Probe says more.
func New(ctx context.Context, cfg Config) (_ *Backend, err error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("linux sandbox: %w", err)
	}
	b := &Backend{
		cfg: cfg, log: cfg.Logger, uid: os.Geteuid(), gid: os.Getegid(), privileged: hasRights(),
		live: map[*box]struct{}{},
	}
	b.claims = &claims{log: b.log, origin: cfg.FirstUID}
	if b.privileged {
		b.claims.dir = claimDir
	}
	b.slots = newSlots(cfg.MaxSandboxes, b.claims)
	defer func() {
		if err != nil {
			err = fmt.Errorf("linux sandbox: %w", errors.Join(err, b.Close()))
		}
	}()
	b.mounter, b.filter = mounter{privileged: b.privileged}, confine.Assemble()
	if err := b.checkNetwork(); err != nil {
		return nil, err
	}
	if b.system, err = findSystemFiles(); err != nil {
		return nil, err
	}
	if b.program, err = openInit(cfg.InitPath); err != nil {
		return nil, err
	}
	if err := b.openCgroups(); err != nil {
		return nil, err
	}
	var root *template
	if b.privileged {
		root = &template{log: b.log, files: b.system}
	}
	b.spawner = newSpawner(b.program, b.log, root)
	if _, err := b.spawner.ready(ctx); err != nil {
		return nil, err
	}
	if err := b.tryOne(ctx); err != nil {
		return nil, err
	}
	if cfg.PoolSize > 0 {
		b.pool = newPool(b)
	}
	return b, nil
}

// Name is "linux".
func (b *Backend) Name() string { return "linux" }

// hasRights says whether the process may map any user ids and make mounts
// on the host, as root may unless a container took that away.
func hasRights() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_KILL
	return data[0].Effective&need == need && mapsAllIDs()
}

// mapsAllIDs says that the process is not itself in a user namespace with few
// ids, as in a rootless container.
func mapsAllIDs() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, count uint64
	n, _ := fmt.Sscan(string(text), &inside, &outside, &count)
	return n == 3 && inside == 0 && count >= 1<<32-1
}

// checkNetwork finds out before anybody asks whether outbound network works.
func (b *Backend) checkNetwork() error {
	if b.cfg.Network == sandbox.NetworkNone {
		return nil
	}
	f, err := os.OpenFile(tun.DevicePath, os.O_RDWR, 0)
	if err == nil {
		_ = f.Close()
		return b.completeEgress()
	}
	if !b.cfg.DegradeNetwork {
		return fmt.Errorf("%w: %w (functions can run without: network %q)", ErrNetwork, err, sandbox.NetworkNone)
	}
	b.log.Warn("functions have NO outbound network: this host gives no TUN devices", "error", err)
	b.cfg.Network = sandbox.NetworkNone
	return nil
}

func (b *Backend) completeEgress() error {
	e := &b.cfg.Egress
	if e.Logger == nil {
		e.Logger = b.log
	}
	if e.Host == nil {
		e.Host = egress.NewHostAddresses(nil)
	}
	if e.Resolvers == nil {
		list, err := egress.HostResolvers()
		if err != nil {
			b.log.Warn("functions cannot resolve names", "error", err)
		}
		e.Resolvers = list
	}
	return nil
}

func (b *Backend) openCgroups() error {
	if b.cfg.NoCgroups {
		return nil
	}
	m, err := cgroup.NewManager(cgroup.Config{Name: b.cfg.Name, Exclusive: b.cfg.Exclusive, Logger: b.log})
	if errors.Is(err, cgroup.ErrUnavailable) {
		b.log.Warn("no control groups: memory is watched by sampling, processor shares are not kept, and freezing is by signals",
			"reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	b.cgroups, b.can = m, m.Can()
	return nil
}

// tryOne makes a sandbox and ends it, so that a host that cannot is found at
// start, not at the first invocation.
func (b *Backend) tryOne(ctx context.Context) error {
	k, err := b.newBlank(ctx, b.cfg.Network, "")
	if err != nil {
		return err
	}
	return k.destroy()
}

// Create takes a blank sandbox of the pool, or makes one, and gives it to the
// function of spec.
func (b *Backend) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, sandbox.ErrClosed
	}
	b.making.Add(1)
	b.mu.Unlock()
	defer b.making.Done()

	network, err := b.networkFor(spec)
	if err != nil {
		return nil, err
	}
	s, err := b.attempt(ctx, spec, network)
	// Something killed the init or the spawner just now: nothing of the
	// function has run, and another sandbox will do.
	for range retries {
		if !errors.Is(err, errGone) {
			break
		}
		s, err = b.attempt(ctx, spec, network)
	}
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.live[s] = struct{}{}
	b.mu.Unlock()
	return s, nil
}

// retries bounds how often Create begins again.
const retries = 3

// attempt makes a sandbox for spec, from the pool if it has one.
func (b *Backend) attempt(ctx context.Context, spec sandbox.Spec, network sandbox.Network) (*box, error) {
	var k *blank
	if b.pool != nil && spec.RootDir == "" && network == b.cfg.Network {
		k = b.pool.take()
	}
	if k == nil {
		var err error
		b.creating.Add(1)
		k, err = b.newBlank(ctx, network, spec.RootDir)
		b.creating.Add(-1)
		if err != nil {
			return nil, err
		}
	}
	s, err := b.assign(ctx, k, spec)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox %s: %w", spec.ID, err), k.destroy())
	}
	return s, nil
}

// crowded says that more callers wait for sandboxes than the machine can serve
// at once: what saves memory only is put off.
func (b *Backend) crowded() bool { return int(b.creating.Load()) > runtime.NumCPU() }

func (b *Backend) networkFor(spec sandbox.Spec) (sandbox.Network, error) {
	switch spec.Network {
	case sandbox.NetworkNone, "":
		return sandbox.NetworkNone, nil
	case sandbox.NetworkInternet:
		if b.cfg.Network == sandbox.NetworkInternet || b.cfg.DegradeNetwork {
			return b.cfg.Network, nil
		}
		return "", fmt.Errorf("sandbox %s: %w", spec.ID, ErrNetwork)
	}
	return "", fmt.Errorf("sandbox %s: unknown network %q", spec.ID, spec.Network)
}

// Close destroys what is left and waits for it. Idempotent.
func (b *Backend) Close() error {
	b.once.Do(func() { b.fail = b.close() })
	return b.fail
}

func (b *Backend) close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.making.Wait()
	var errs []error
	if b.pool != nil {
		errs = append(errs, b.pool.close())
	}
	b.mu.Lock()
	boxes := make([]*box, 0, len(b.live))
	for s := range b.live {
		boxes = append(boxes, s)
	}
	b.mu.Unlock()
	for _, s := range boxes {
		errs = append(errs, s.Close())
	}
	b.work.Wait()
	if b.spawner != nil {
		b.spawner.close()
	}
	if b.cgroups != nil {
		errs = append(errs, b.cgroups.Close())
	}
	if b.program != nil {
		errs = append(errs, b.program.Close())
	}
	errs = append(errs, b.claims.close())
	return errors.Join(errs...)
}

// forget is called by a box that was closed.
func (b *Backend) forget(s *box) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.live, s)
}
