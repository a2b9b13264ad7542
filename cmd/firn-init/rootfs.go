//go:build linux

package main

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// The new root is built below this directory of the host's, which every host
// has and no function's files lie in. It is seen by init alone: the mount
// namespace is its own.
const workshop = "/proc"

// rootOptions are those of the tmpfs that holds the sandbox's own files.
const rootOptions = "mode=755,size=4m,nr_inodes=2048"

// hostDir is where the host's files are until Assign, with KeepHost.
const hostDir = "/mnt"

// buildSandbox does all of Setup and leaves init inside its own root, with the
// listener and, if asked for, the TUN device to hand over (else -1).
func buildSandbox(m *initproto.Setup, fds []int) (listener, tun int, err error) {
	tun = -1
	if m.TUN {
		// Before the host's /dev is out of reach.
		if tun, err = openTUN(); err != nil {
			return -1, -1, err
		}
	}
	if err := buildRoot(m, fds); err != nil {
		return -1, -1, err
	}
	if err := unix.Sethostname([]byte(m.Hostname)); err != nil {
		return -1, -1, failed("set the host name", err)
	}
	if err := setLimits(m.Processes); err != nil {
		return -1, -1, err
	}
	if err := raiseLoopback(); err != nil {
		return -1, -1, err
	}
	listener, err = listen()
	return listener, tun, err
}

// buildRoot makes the root directory and moves into it. All paths are
// relative to the root being built until it is entered.
func buildRoot(m *initproto.Setup, fds []int) error {
	if m.Tree {
		return enterTree(fds)
	}
	// Slave: what the host unmounts is let go here as well.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return failed("leave the host's mount propagation", err)
	}
	// Clones of the sources come first: the workshop hides none of them then.
	all, err := openSources(append(m.Mounts, m.Devices...), fds, "")
	if err != nil {
		return err
	}
	sources, devices := all[:len(m.Mounts)], all[len(m.Mounts):]
	if err := mountTmpfs(workshop, rootOptions); err != nil {
		return err
	}
	if err := unix.Chdir(workshop); err != nil {
		return failed("enter the new root", err)
	}
	if m.Base {
		if err := overBase(sources[0]); err != nil {
			return err
		}
		m.Mounts, sources = m.Mounts[1:], sources[1:]
	} else if err := writeSkeleton(""); err != nil {
		return err
	}
	if err := makeLinks(m.Links); err != nil {
		return err
	}
	if err := attachAll(m.Mounts, sources); err != nil {
		return err
	}
	if err := mountDevices(m.Devices, devices); err != nil {
		return err
	}
	if err := mountOwn(); err != nil {
		return err
	}
	if err := enterRoot(m.KeepHost); err != nil || m.Base {
		return err // the overlay has no writable layer
	}
	return setReadOnly("/")
}

// enterTree makes a copy of the template the root.
func enterTree(fds []int) error {
	if len(fds) != 1 {
		return failed("understand the request", unix.EPROTO)
	}
	tree := fds[0]
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return failed("mount the root", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return failed("enter the new root", err)
	}
	if err := unix.Chroot("."); err != nil {
		return failed("enter the new root", err)
	}
	_ = unix.Close(tree)
	return mountOwn()
}

func makeLinks(list []initproto.Link) error {
	for _, l := range list {
		if err := makeParents(l.Path); err != nil {
			return err
		}
		if err := unix.Symlink(l.Target, relative(l.Path)); err != nil {
			return failed("link "+l.Path, err)
		}
	}
	return nil
}

// openSources returns a detached, read-only mount for each of the list: those
// that firn sent, and clones of host directories below prefix.
func openSources(list []initproto.Mount, fds []int, prefix string) ([]int, error) {
	var out []int
	for _, m := range list {
		if m.FD {
			if len(fds) == 0 {
				return nil, failed("understand the request", unix.EPROTO)
			}
			out, fds = append(out, fds[0]), fds[1:]
			continue
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
		fd, err := unix.OpenTree(unix.AT_FDCWD, prefix+m.Source, flags)
		if err != nil {
			return nil, failed("clone "+m.Source, err)
		}
		out = append(out, fd)
	}
	return out, nil
}

// attachAll makes mount points below the current directory, which is the root
// being built, and puts the detached mounts there. A source that was closed
// becomes -1.
func attachAll(list []initproto.Mount, sources []int) error {
	for i, m := range list {
		if err := makePoint(m); err != nil {
			return err
		}
		if !m.FD {
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
			if err := unix.MountSetattr(sources[i], "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
				return failed("protect "+m.Dest, err)
			}
		}
		fd := sources[i]
		sources[i] = -1
		if err := moveTo(fd, relative(m.Dest)); err != nil {
			return err
		}
	}
	return nil
}

func moveTo(fd int, dest string) error {
	err := unix.MoveMount(fd, "", unix.AT_FDCWD, dest, unix.MOVE_MOUNT_F_EMPTY_PATH)
	_ = unix.Close(fd)
	return failed("mount "+dest, err)
}

// overBase lays the sandbox's own directories and files over an unpacked
// image and makes the union the current directory. The image cannot be
// written to make the mount points in it.
func overBase(image int) error {
	for _, dir := range []string{"image", "own", "root"} {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return failed("make a directory", err)
		}
	}
	if err := moveTo(image, "image"); err != nil {
		return err
	}
	if err := unix.Chdir("own"); err != nil {
		return failed("enter a directory", err)
	}
	if err := writeSkeleton("../image"); err != nil {
		return err
	}
	if err := unix.Chdir(workshop); err != nil {
		return failed("enter a directory", err)
	}
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	if err := unix.Mount("root", "root", "overlay", flags, "lowerdir=own:image"); err != nil {
		return failed("lay the sandbox over the image", err)
	}
	return failed("enter the new root", unix.Chdir("root"))
}

// mountDevices makes /dev of mounts of the host's devices: a user namespace may
// not make device nodes.
func mountDevices(list []initproto.Mount, devices []int) error {
	if err := mountTmpfs("dev", devOptions); err != nil {
		return err
	}
	for i, m := range list {
		if err := makePoint(m); err != nil {
			return err
		}
		if err := moveTo(devices[i], relative(m.Dest)); err != nil {
			return err
		}
	}
	return completeDev()
}

const devOptions = "mode=755,size=64k,nr_inodes=64"

// completeDev makes what of /dev is no device, and makes it read-only.
func completeDev() error {
	for _, l := range [][2]string{
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
	} {
		if err := unix.Symlink(l[0], l[1]); err != nil {
			return failed("link "+l[1], err)
		}
	}
	if err := unix.Mkdir("dev/pts", 0o755); err != nil {
		return failed("make dev/pts", err)
	}
	return setReadOnly("dev")
}

// mountOwn mounts what no two sandboxes share: terminals, /tmp, /proc.
func mountOwn() error {
	const quiet = unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount("devpts", "dev/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return failed("mount /dev/pts", err)
	}
	if err := mountTmpfs("tmp", "mode=1777,size=512m"); err != nil {
		return err
	}
	if err := unix.Mount("proc", "proc", "proc", quiet|unix.MS_NODEV, ""); err != nil {
		return failed("mount /proc", err)
	}
	return maskProc()
}

// maskProc hides what tells of the host and makes read-only what could change
// it. The function's user may write to none of it and Landlock says so again;
// the mounts are for the day one of the two fails.
func maskProc() error {
	for _, name := range []string{"kcore", "keys", "key-users", "timer_list", "latency_stats", "sysrq-trigger", "kpagecount", "kpageflags", "kpagecgroup"} {
		err := unix.Mount("dev/null", "proc/"+name, "", unix.MS_BIND, "")
		if err != nil && err != unix.ENOENT {
			return failed("hide /proc/"+name, err)
		}
	}
	for _, name := range []string{"sys", "irq", "bus", "fs"} {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "proc/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return failed("clone /proc/"+name, err)
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return failed("protect /proc/"+name, err)
		}
		if err := moveTo(fd, "proc/"+name); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes the current directory the root. With keepHost the host's files
// stay in reach until Assign. Otherwise they were never here, see leaveHost: the
// new root covers what is the spawner's own, and that spares pivot_root, which
// looks at every thread of the machine.
func enterRoot(keepHost bool) error {
	if keepHost {
		if err := unix.PivotRoot(".", relative(hostDir)); err != nil {
			return failed("enter the new root", err)
		}
		return failed("enter the new root", unix.Chdir("/"))
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return failed("cover the old root", err)
	}
	return failed("enter the new root", unix.Chroot("."))
}

// attach carries out an Assign.
func attach(m *initproto.Assign, fds []int, keepHost bool) error {
	prefix := ""
	if keepHost {
		prefix = hostDir
	}
	sources, err := openSources(m.Mounts, fds, prefix)
	if err != nil {
		return err
	}
	for i, mnt := range m.Mounts {
		if !mnt.FD {
			attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
			if err := unix.MountSetattr(sources[i], "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
				return failed("protect "+mnt.Dest, err)
			}
		}
		if err := moveTo(sources[i], mnt.Dest); err != nil {
			return err
		}
	}
	if keepHost {
		if err := unix.Unmount(hostDir, unix.MNT_DETACH); err != nil {
			return failed("leave the host's files", err)
		}
	}
	options := "mode=1777,size=" + strconv.FormatUint(m.TmpBytes, 10) +
		",nr_inodes=" + strconv.FormatUint(max(m.TmpBytes/4096, 1024), 10)
	flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
	return failed("size /tmp", unix.Mount("tmpfs", "/tmp", "tmpfs", flags, options))
}

func mountTmpfs(dir, options string) error {
	return failed("mount "+dir, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options))
}

func setReadOnly(path string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return failed("protect "+path, unix.MountSetattr(unix.AT_FDCWD, path, 0, &attr))
}
