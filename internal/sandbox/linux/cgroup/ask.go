//go:build linux

package cgroup

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ask has the kernel report on e from now on. It is called once, by look.
func (w *watcher) ask(e *entry) {
	key, ok := w.enter(e)
	if !ok {
		return
	}
	// Without the lock: version 1 waits for a grace period of the kernel, 10 ms,
	// and whoever sets limits or thaws needs the lock.
	fds, err := w.askV1(e, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	e.told.fds = fds
	if e.gone.Load() { // disarm has been here, and left the rest to us
		e.told.close()
		return
	}
	if err != nil {
		w.m.log.Debug("the kernel does not tell when memory crosses the limit", "group", e.g.name, "error", err)
		return
	}
	e.sampled, e.deaf = false, false
}

// enter makes what the kernel reports of e arrive. On version 2 that is all
// there is to do; on version 1 askV1 has to follow with the key.
func (w *watcher) enter(e *entry) (key int32, v1 bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.gone.Load() || w.closed {
		return 0, false
	}
	f := &e.g.files.memory
	if f.v2 {
		wd, err := unix.InotifyAddWatch(w.inotify, filepath.Join(f.dir, f.names.kills), unix.IN_MODIFY)
		if err != nil {
			w.m.log.Warn("the kernel's memory events cannot be watched", "group", e.g.name, "error", err)
			return 0, false
		}
		e.told.watch = int32(wd)
		w.byWatch[e.told.watch] = e
		e.deaf = false
		return 0, false
	}
	w.nextKey++
	e.told.key = w.nextKey
	w.byKey[e.told.key] = e
	return e.told.key, true
}

// askV1 asks the version 1 controller to report usage crossing the limit, and
// OOM. The eventfds are the caller's, also with an error. It opens what it
// names to the kernel: Destroy may close the group's files at any time, and
// their numbers would soon be those of others.
func (w *watcher) askV1(e *entry, key int32) (fds []int, err error) {
	f := &e.g.files.memory
	oom, err := openFile(filepath.Join(f.dir, "memory.oom_control"), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer oom.Close()
	usage, err := openFile(filepath.Join(f.dir, f.names.current), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer usage.Close()
	for _, ask := range []struct {
		kind int32
		args string
	}{
		{tellOOM, fmt.Sprint(oom.Fd())},
		{tellUsage, fmt.Sprint(usage.Fd(), e.watch.limit)},
	} {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
		if err := w.add(fd, key, ask.kind); err != nil {
			return fds, err
		}
		if err := writeString(filepath.Join(f.dir, "cgroup.event_control"), fmt.Sprint(fd)+" "+ask.args); err != nil {
			return fds, err
		}
	}
	return fds, nil
}
