//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Manager owns firn's directory in each tree and the groups in it. It is safe
// for concurrent use.
type Manager struct {
	log  *slog.Logger
	now  func() time.Time
	host Host
	can  Can
	lay  layout
	// enabled are the controllers that firn made base pass on; Close takes
	// them back. moved is set when this process left base for selfDir.
	enabled []string
	moved   bool
	missing map[string]string // controller -> why firn has it not
	watch   *watcher
	stats   statBuffers

	mu     sync.Mutex
	groups map[string]*Group
	closed bool
	back   []*os.File // see exits
}

// layout says in which of firn's directories each thing is done. The same
// directory stands several times on version 2; "" means nowhere.
type layout struct {
	dirs     []string // every directory firn made, one per tree
	homes    []string // of version 1: where this process is in each tree of dirs
	unified  string   // in the cgroup2 tree: freeze, kill, CLONE_INTO_CGROUP
	memory   place
	cpu      place
	pids     place
	cpusets  []string // of dirs, those where groups need processors to be of use
	freezer  string   // version 1
	cpuacct  string   // version 1
	peakable bool     // memory.peak or its like can be reset
}

// place is where a controller is.
type place struct {
	dir string
	v2  bool
}

const (
	selfDir  = "self"  // firn's own leaf in its directory
	probeDir = "probe" // a group to try things in
	groupTag = "e-"    // begins the directory name of a Group
)

// NewManager makes firn's directories, proves in a group of its own what can
// be done, and removes what dead owners left. The error is [ErrUnavailable]
// when there is nothing to use. The caller closes the Manager.
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Name == "" {
		cfg.Name = "main"
	}
	if !validName(cfg.Name) {
		return nil, fmt.Errorf("cgroup: name %q: only letters, digits, '_' and '.', at most 32", cfg.Name)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Host == nil {
		h, err := Detect()
		if err != nil {
			return nil, err
		}
		cfg.Host = &h
	}
	m := &Manager{log: cfg.Logger, now: cfg.Now, host: *cfg.Host, groups: map[string]*Group{}, missing: map[string]string{}}
	me, err := self(cfg.Name, m.host.proc)
	if err != nil {
		return nil, err
	}
	m.removeOrphans(me, cfg.Exclusive)
	if err := m.makeDirs(me); err != nil {
		m.removeDirs()
		return nil, err
	}
	if m.watch, err = newWatcher(m); err == nil {
		err = m.probe()
	}
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	for _, c := range slices.Sorted(maps.Keys(m.missing)) {
		m.log.Warn("a controller cannot be used", "controller", c, "error", m.missing[c])
	}
	return m, nil
}

// Can says what was proved to work.
func (m *Manager) Can() Can { return m.can }

// Host returns what was detected before the Manager was made.
func (m *Manager) Host() Host { return m.host }

func (m *Manager) removeOrphans(me owner, exclusive bool) {
	var mounts []string
	for _, t := range m.host.trees {
		mounts = append(mounts, t.mount)
	}
	if m.host.unified != nil {
		mounts = append(mounts, m.host.unified.mount)
	}
	ctx, cancel := context.WithTimeout(context.Background(), orphanTime)
	defer cancel()
	orphans := slices.DeleteFunc(findOrphans(mounts, me, exclusive, m.host.proc), holdsSelf)
	// First all are killed, in every tree: a process that is frozen in one
	// of version 1 keeps its groups in the others from being removed.
	for _, dir := range orphans {
		for _, d := range subtree(dir) {
			killDir(d)
		}
	}
	for _, dir := range orphans {
		if err := removeTree(ctx, dir); err != nil {
			m.log.Warn("control group of a dead process could not be removed", "dir", dir, "error", err)
			continue
		}
		m.log.Info("removed the control group of a dead process", "dir", dir)
	}
}

// makeDirs makes one directory per tree that is of use.
func (m *Manager) makeDirs(me owner) error {
	for n := range 64 {
		err := m.makeDirsAs(me.dir(n))
		if errors.Is(err, os.ErrExist) { // another manager of this process
			if err := m.removeDirs(); err != nil {
				return err
			}
			m.lay = layout{}
			continue
		}
		if err == nil && len(m.lay.dirs) == 0 {
			return fmt.Errorf("%w: %s", ErrUnavailable, m.host.Problem())
		}
		return err
	}
	return errors.New("cgroup: no free directory name")
}

func (m *Manager) makeDirsAs(name string) error {
	if b := m.host.base; b.dir != "" {
		dir := filepath.Join(b.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		m.lay.dirs = append(m.lay.dirs, dir)
		m.lay.unified = dir
		m.passControllers(b, dir)
	}
	for i, t := range m.host.trees {
		use := t.controllers
		if t.problem != "" || !m.useful(use) {
			continue
		}
		dir := filepath.Join(m.host.trees[i].own, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		m.lay.dirs = append(m.lay.dirs, dir)
		m.lay.homes = append(m.lay.homes, m.host.trees[i].own)
		inheritCpuset(dir)
		if exists(filepath.Join(dir, "cpuset.cpus")) {
			m.lay.cpusets = append(m.lay.cpusets, dir)
		}
		m.take(use, dir)
	}
	return nil
}

// passControllers brings the controllers of b into dir and on to its
// children. What cannot be had is noted in missing: a manager without a
// controller is still worth having.
func (m *Manager) passControllers(b base, dir string) {
	if b.moveSelf {
		leaf := filepath.Join(dir, selfDir)
		err := os.Mkdir(leaf, 0o755)
		if err == nil {
			err = moveMembers(b.dir, leaf)
		}
		m.moved = err == nil
		if err != nil {
			m.log.Warn("firn could not leave its control group, so functions get no limits", "error", err)
		}
	}
	for _, c := range b.controllers {
		fresh, err := enable(b.dir, []string{c})
		m.enabled = append(m.enabled, fresh...)
		if err == nil {
			_, err = enable(dir, []string{c})
		}
		if err != nil {
			m.missing[c] = err.Error()
			continue
		}
		switch p := (place{dir: dir, v2: true}); c {
		case "memory":
			m.lay.memory = p
		case "cpu":
			m.lay.cpu = p
		case "pids":
			m.lay.pids = p
		}
	}
}

// useful reports whether a version 1 tree with these controllers gives
// something that the unified tree does not.
func (m *Manager) useful(controllers []string) bool {
	return slices.ContainsFunc(controllers, func(c string) bool {
		switch c {
		case "freezer":
			return m.lay.unified == "" || !exists(filepath.Join(m.lay.unified, "cgroup.freeze"))
		case "cpuacct":
			return m.lay.unified == "" || !exists(filepath.Join(m.lay.unified, "cpu.stat"))
		}
		return true
	})
}

// take notes the version 1 directory as the place of its controllers.
func (m *Manager) take(controllers []string, dir string) {
	for _, c := range controllers {
		switch p := (place{dir: dir}); c {
		case "memory":
			m.lay.memory = p
			// Charges go to a parent only with this; kernels since 5.11
			// know nothing else, and one with groups below refuses.
			_ = writeString(filepath.Join(dir, "memory.use_hierarchy"), "1")
		case "cpu":
			m.lay.cpu = p
		case "pids":
			m.lay.pids = p
		case "freezer":
			m.lay.freezer = dir
		case "cpuacct":
			m.lay.cpuacct = dir
		}
	}
}

// inheritCpuset gives a new version 1 directory its parent's processors when
// cpuset is mounted together with a controller of ours: without them no
// process can be added.
func inheritCpuset(dir string) {
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		if v, err := readString(filepath.Join(dir, f)); err == nil && v == "" {
			if v, err = readString(filepath.Join(filepath.Dir(dir), f)); err == nil {
				_ = writeString(filepath.Join(dir, f), v)
			}
		}
	}
}

// probe makes a group, looks at what it offers, and removes it.
func (m *Manager) probe() error {
	g, err := m.create(probeDir)
	if err != nil {
		return fmt.Errorf("cgroup: probe: %w", err)
	}
	m.lay.peakable = g.ResetPeak() == nil && g.exactPeak()
	m.can = Can{
		Memory: m.lay.memory.dir != "", CPU: m.lay.cpu.dir != "", Pids: m.lay.pids.dir != "",
		Freeze: g.files.freeze != nil, CloneInto: g.files.dir != nil,
		KillAll: g.unified() != "" && exists(filepath.Join(g.unified(), "cgroup.kill")),
		CPUTime: g.files.cpuTime != nil, ExactPeak: m.lay.peakable,
	}
	ctx, cancel := context.WithTimeout(context.Background(), orphanTime)
	defer cancel()
	return g.Destroy(ctx)
}

// Create makes a group with no limits and nothing in it. The id is unique in
// the Manager and made of letters, digits, '.', '_' and '-', at most 100.
func (m *Manager) Create(id string) (*Group, error) {
	ok := id != "" && len(id) <= 100 && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r == '-' || validName(string(r)))
	})
	if !ok {
		return nil, fmt.Errorf("cgroup: bad group id %q", id)
	}
	return m.create(groupTag + id)
}

func (m *Manager) create(name string) (*Group, error) {
	g := newGroup(m, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, errors.New("cgroup: manager closed")
	case m.groups[name] != nil:
		return nil, fmt.Errorf("cgroup: group %s: %w", name, os.ErrExist)
	}
	if err := g.open(); err != nil {
		g.files.close()
		for _, d := range g.dirs {
			_ = unix.Rmdir(d)
		}
		return nil, fmt.Errorf("cgroup: create %s: %w", name, err)
	}
	m.groups[name] = g
	return g, nil
}

func (m *Manager) forget(g *Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[g.name] == g {
		delete(m.groups, g.name)
	}
}

// Close destroys every group left, killing what is in them, removes firn's
// directories, and moves this process back to where it was. It is idempotent
// and bounded in time; the error says what stayed behind.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	left := make([]*Group, 0, len(m.groups))
	for _, g := range m.groups {
		left = append(left, g)
	}
	m.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), orphanTime)
	defer cancel()
	var errs []error
	for _, g := range left {
		_ = g.Kill() // all first, so that they die side by side
	}
	for _, g := range left {
		errs = append(errs, g.Destroy(ctx))
	}
	if m.watch != nil {
		m.watch.close()
	}
	m.mu.Lock()
	closeFiles(m.back)
	m.back = nil
	m.mu.Unlock()
	return errors.Join(append(errs, m.removeDirs())...)
}

// removeDirs removes firn's own directories.
func (m *Manager) removeDirs() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	if m.moved {
		errs = append(errs, m.moveBackLocked())
	}
	for _, d := range m.lay.dirs {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, &os.PathError{Op: "rmdir", Path: d, Err: err})
		}
	}
	m.lay.dirs = nil
	return errors.Join(errs...)
}

// moveBackLocked undoes passControllers: base can hold processes again only
// when it passes no controller on.
func (m *Manager) moveBackLocked() error {
	m.moved = false
	leaf := filepath.Join(m.lay.unified, selfDir)
	for _, c := range m.enabled {
		for _, d := range []string{m.lay.unified, m.host.base.dir} {
			if err := writeString(filepath.Join(d, "cgroup.subtree_control"), "-"+c); err != nil {
				return fmt.Errorf("cgroup: take controller %s back: %w", c, err)
			}
		}
	}
	m.enabled = nil
	if err := moveMembers(leaf, m.host.base.dir); err != nil {
		return err
	}
	return unix.Rmdir(leaf)
}
