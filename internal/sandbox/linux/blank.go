//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/cgroup"
	"github.com/firn-run/firn/internal/sandbox/linux/egress"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// The function's user and group, as AWS has them.
const (
	functionUID = 993
	functionGID = 990
)

// setupTimeout bounds what takes a few milliseconds on a healthy host.
const setupTimeout = 30 * time.Second

// blank is a sandbox without a function: namespaces, root file system,
// listener, cgroups and network are there, and init waits for its assignment.
type blank struct {
	b       *Backend
	slot    int
	network sandbox.Network
	pid     int
	pidfd   *os.File // pollable
	userns  *os.File
	conn    *conn
	reader  sync.WaitGroup
	group   *cgroup.Group // nil without cgroups
	api     net.Listener
	stack   *egress.Stack // nil without a network

	exits exitHandler
}

// exitHandler passes exits on to the sandbox that the blank becomes. No
// process is started before that.
type exitHandler struct {
	mu sync.Mutex
	f  func(*initproto.Exited)
}

func (h *exitHandler) set(f func(*initproto.Exited)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

func (h *exitHandler) call(m *initproto.Exited) {
	h.mu.Lock()
	f := h.f
	h.mu.Unlock()
	if f != nil {
		f(m)
	}
}

// newBlank makes a sandbox up to the point where the function matters. With
// root, the root file system is that image instead of the host's libraries.
func (b *Backend) newBlank(ctx context.Context, network sandbox.Network, root string) (_ *blank, err error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	slot, err := b.slots.take()
	if err != nil {
		return nil, err
	}
	k := &blank{b: b, slot: slot, network: network}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a sandbox: %w", err), k.destroy())
		}
	}()
	if b.cgroups != nil {
		if k.group, err = b.cgroups.Create(strconv.Itoa(slot)); err != nil {
			return nil, err
		}
	}
	born, err := k.spawn(ctx, root == "")
	if err != nil {
		return nil, err
	}
	if err := k.furnish(ctx, root, born); err != nil {
		return nil, err
	}
	return k, k.conn.send(&initproto.Settle{Filter: string(k.b.filter)})
}

// spawn forks the init. The caller closes the tree.
func (k *blank) spawn(ctx context.Context, wantTree bool) (born child, err error) {
	sock, theirs, err := socketPair()
	if err != nil {
		return born, err
	}
	defer theirs.Close()
	m := &initproto.Spawn{Unprivileged: !k.b.privileged, Tree: wantTree && k.b.privileged}
	m.UIDs, m.GIDs = k.b.idMaps(k.slot)
	fds := []int{int(theirs.Fd())}
	if k.group != nil && k.group.FD() >= 0 {
		m.InCgroup = true
		fds = append(fds, k.group.FD())
	}
	if k.group != nil {
		in, back, err := k.group.Doors()
		if err != nil {
			_ = sock.Close()
			return born, err
		}
		m.Tasks = uint32(len(in))
		for _, f := range in {
			defer f.Close()
			fds = append(fds, int(f.Fd()))
		}
		for _, f := range back {
			fds = append(fds, int(f.Fd()))
		}
	}
	born, err = k.b.spawner.spawn(ctx, m, fds...)
	if err != nil {
		_ = sock.Close()
		return born, err
	}
	k.pid = born.pid
	if k.group != nil {
		k.group.ReleaseFD()
	}
	k.conn = newConn(sock)
	k.conn.onExit = k.exits.call
	k.reader.Go(k.conn.serve)
	if err := unix.SetNonblock(born.pidfd, true); err != nil {
		closeFDs([]int{born.pidfd})
		if born.tree >= 0 {
			closeFDs([]int{born.tree})
		}
		return born, fmt.Errorf("watch init: %w", err)
	}
	k.pidfd = os.NewFile(uintptr(born.pidfd), "pidfd")
	return born, nil
}

// furnish does three slow things at once: init builds the root file system,
// the kernel moves init into its cgroups, and the network is connected.
func (k *blank) furnish(ctx context.Context, root string, born child) error {
	var tree []int
	if born.tree >= 0 {
		tree = append(tree, born.tree)
		defer closeFDs(tree)
	}
	userns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", k.pid))
	if err != nil {
		return fmt.Errorf("open the user namespace of init: %w", err)
	}
	k.userns = userns
	var work errgroup.Group
	var tun *os.File
	work.Go(func() error { return k.joinCgroups(born) })
	outside := k.network == sandbox.NetworkInternet
	if outside && k.b.privileged {
		work.Go(func() (err error) {
			// The pidfd stands for all namespaces of init.
			tun, err = egress.OpenTUN(k.pidfd)
			return err
		})
	}
	work.Go(func() error {
		fds, err := k.setup(ctx, root, tree, outside && !k.b.privileged)
		if err != nil {
			return err
		}
		if len(fds) > 1 {
			tun = os.NewFile(uintptr(fds[1]), "tun")
		}
		k.api, err = adoptListener(fds[0])
		return err
	})
	err = work.Wait()
	if tun == nil || err != nil {
		if tun != nil {
			_ = tun.Close()
		}
		return err
	}
	cfg := k.b.cfg.Egress
	cfg.TUN = tun
	if k.stack, err = egress.New(cfg); err != nil {
		_ = tun.Close()
	}
	return err
}

// joinCgroups moves init into its control groups as far as it was not born
// there.
func (k *blank) joinCgroups(born child) error {
	if k.group == nil {
		return nil
	}
	if !born.entered {
		if err := k.group.Add(k.pid); err != nil {
			return err
		}
	}
	k.group.Exempt(k.pid)
	return nil
}

// setup has init build the sandbox, around the tree if one is given, and
// returns the listener's descriptor and, if asked for, the TUN device's.
func (k *blank) setup(ctx context.Context, root string, tree []int, tun bool) ([]int, error) {
	m := &initproto.Setup{
		Hostname: hostname(k.slot), UID: functionUID, GID: functionGID,
		SetIDs: k.b.privileged, KeepHost: !k.b.privileged, TUN: tun,
		Processes: uint32(k.b.cfg.Processes),
	}
	fds := tree
	if len(tree) > 0 {
		m.Tree = true
	} else {
		parts, err := k.parts(m, root)
		if err != nil {
			return nil, err
		}
		defer closeFDs(parts)
		fds = parts
	}
	a, err := k.conn.call(ctx, m, fds...)
	if err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	want := 1
	if tun {
		want = 2
	}
	if _, ok := a.m.(*initproto.Ready); !ok || len(a.fds) != want {
		a.close()
		return nil, errors.New("init gave a wrong answer")
	}
	return a.fds, nil
}

// parts are the mounts of which init builds the root by itself.
func (k *blank) parts(m *initproto.Setup, root string) (fds []int, err error) {
	mounts := k.b.system.mounts
	if root == "" {
		m.Links = k.b.system.links
	} else {
		m.Base = true
		mounts = []initproto.Mount{{Dest: "/", Source: root}}
	}
	if m.Mounts, fds, err = k.b.mounter.prepare(mounts, k.userns); err != nil {
		return nil, err
	}
	var more []int
	if m.Devices, more, err = k.b.mounter.prepareDevices(); err != nil {
		closeFDs(fds)
		return nil, err
	}
	return append(fds, more...), nil
}

// hostname is of the form that functions see on AWS. The slot makes it
// different in every sandbox, not secret.
func hostname(slot int) string {
	return fmt.Sprintf("169-254-%d-%d", 100+slot/250%100, 2+slot%250)
}

// apiListener is the Runtime API's socket. Connections get no keep-alive
// probes: both ends are on this machine, and a thousand idle sandboxes should
// cause no wakeups.
type apiListener struct{ *net.TCPListener }

func adoptListener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "runtime api")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the listener: %w", err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("init sent something else than a listener"), l.Close())
	}
	return apiListener{tcp}, nil
}

// Accept waits for the next connection from inside.
func (l apiListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAlive(false) // fails only when the peer is gone: the next read tells
	return c, nil
}

// alive says whether init still runs.
func (k *blank) alive() bool {
	select {
	case <-k.conn.gone:
		return false
	default:
		return true
	}
}

// kill ends every process of the sandbox and returns when none is left.
func (k *blank) kill() error {
	if k.pidfd == nil {
		return nil
	}
	raw, err := k.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	sent := unix.ESRCH
	_ = raw.Control(func(fd uintptr) {
		if err := unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0); err == nil {
			sent = 0
		}
	})
	if sent == 0 && k.group != nil {
		// On version 1 the frozen do not even die. On version 2 this is a
		// write to an open file.
		_ = k.group.Thaw()
	}
	_ = k.pidfd.SetReadDeadline(time.Now().Add(setupTimeout))
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
	if err != nil {
		return fmt.Errorf("init %d does not end: %w", k.pid, err)
	}
	return nil
}

// destroy releases everything, waiting for all of it.
func (k *blank) destroy() error {
	err := k.kill()
	return errors.Join(err, k.release())
}

// release gives back what is left after kill. It may take as long as the
// kernel takes to let go of a network namespace and the cgroups.
func (k *blank) release() error {
	var errs []error
	if k.api != nil {
		_ = k.api.Close() // the sandbox may have closed it before
	}
	if k.stack != nil {
		errs = append(errs, k.stack.Close())
	}
	if k.conn != nil {
		k.conn.close()
		k.reader.Wait()
	}
	if k.group != nil {
		ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
		errs = append(errs, k.group.Destroy(ctx))
		cancel()
	}
	if k.userns != nil {
		errs = append(errs, k.userns.Close())
	}
	if k.pidfd != nil {
		errs = append(errs, k.pidfd.Close())
	}
	k.b.slots.give(k.slot)
	return errors.Join(errs...)
}
