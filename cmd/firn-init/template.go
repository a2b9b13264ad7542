//go:build linux

package main

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// Where firn has all rights, the spawner's thread lives in a mount namespace of
// its own, which every init is born with a copy of. There is nothing of the host
// in it: no path of an init leads to the host's files at any time, whatever
// happens to it. What there is: a procfs that shows a process only what it may
// trace, and the template, the root of a sandbox, built once. An init gets a
// copy of that whose owners are mapped for it, and covers the rest with it.

// Directories of the spawner's own root.
const (
	procDir     = "/proc"
	templateDir = "/root"
)

// template is the root that sandboxes get copies of.
type template struct {
	away  bool // the thread has left the host
	built bool
}

// renew builds the template, in place of the one before. An error is one after
// which no init may be forked.
func (t *template) renew(ctl *control, seq uint32, m *initproto.Template, fds []int) error {
	if !t.away {
		if err := leaveHost(); err != nil {
			return err
		}
		t.away = true
	}
	if t.built {
		if err := t.remove(); err != nil {
			return err
		}
	}
	err := buildTemplate(m, fds)
	if back := unix.Chdir("/"); back != nil {
		return failed("leave the template", back)
	}
	if err != nil {
		_ = t.remove() // if it came as far as being mounted
		return ctl.fail(seq, err)
	}
	t.built = true
	return ctl.send(seq, &initproto.OK{})
}

func (t *template) remove() error {
	t.built = false
	return failed("remove the template", unix.Unmount(templateDir, unix.MNT_DETACH))
}

// leaveHost moves the calling thread into a mount namespace without the host's
// files.
func leaveHost() error {
	unix.Umask(0o022)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return failed("make a mount namespace", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return failed("leave the host's mount propagation", err)
	}
	if err := mountTmpfs(workshop, "mode=755,size=64k,nr_inodes=16"); err != nil {
		return err
	}
	if err := unix.Chdir(workshop); err != nil {
		return failed("enter the spawner's root", err)
	}
	for _, dir := range []string{procDir, templateDir} {
		if err := unix.Mkdir(relative(dir), 0o755); err != nil {
			return failed("make "+dir, err)
		}
	}
	const quiet = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	if err := unix.Mount("proc", relative(procDir), "proc", quiet, "hidepid=ptraceable"); err != nil {
		return failed("mount the spawner's /proc", err)
	}
	if err := setReadOnly("."); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return failed("enter the spawner's root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return failed("leave the host's files", err)
	}
	return failed("enter the spawner's root", unix.Chdir("/"))
}

// buildTemplate builds the root of a sandbox but for what mountOwn adds. Its
// devices are made, not mounted: the mounts of the host's would not take mapped
// owners.
func buildTemplate(m *initproto.Template, fds []int) error {
	sources, err := openSources(m.Mounts, fds, "")
	if err != nil {
		closeAll(fds)
		return err
	}
	defer func() {
		closeAll(slices.DeleteFunc(sources, func(fd int) bool { return fd < 0 }))
	}()
	if err := mountTmpfs(templateDir, rootOptions); err != nil {
		return err
	}
	if err := unix.Chdir(templateDir); err != nil {
		return failed("enter the template", err)
	}
	if err := writeSkeleton(""); err != nil {
		return err
	}
	if err := makeLinks(m.Links); err != nil {
		return err
	}
	if err := attachAll(m.Mounts, sources); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, devOptions); err != nil {
		return failed("mount dev", err)
	}
	for _, d := range devices() {
		if err := makeDevice(d); err != nil {
			return err
		}
	}
	if err := completeDev(); err != nil {
		return err
	}
	return setReadOnly(".")
}

// device is a character device with its numbers, which are the same on every
// Linux.
type device struct {
	name         string
	major, minor uint32
}

func devices() []device {
	return []device{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
}

func makeDevice(d device) error {
	path := "dev/" + d.name
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
		return failed("make "+path, err)
	}
	return failed("open "+path+" to all", unix.Chmod(path, 0o666))
}

// copies returns a copy of the template for the init pid, or nothing when there
// is none or its owners cannot be mapped: not every file system can.
func (t *template) copies(pid int) []int {
	if !t.built {
		return nil
	}
	userns, err := unix.Open(procDir+"/"+strconv.Itoa(pid)+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // init is gone already, and firn will see
	}
	defer unix.Close(userns)
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	tree, err := unix.OpenTree(unix.AT_FDCWD, templateDir, flags)
	if err != nil {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		_ = unix.Close(tree)
		if err == unix.EINVAL {
			_ = t.remove() // nor could they for any other
		}
		return nil
	}
	return []int{tree}
}
