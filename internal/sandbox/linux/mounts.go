//go:build linux

package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// systemFiles is what of the host appears in a sandbox that has no image of
// its own: system libraries and programs, and public certificates. Nothing
// else of /etc: it holds passwords, keys and names.
type systemFiles struct {
	mounts []initproto.Mount // with Source
	links  []initproto.Link
}

// findSystemFiles looks at the host. Where the host has a symbolic link (/bin
// on a merged-/usr system), so has the sandbox.
func findSystemFiles() (systemFiles, error) {
	var sys systemFiles
	for _, path := range []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
		"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/openssl.cnf",
		"/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/pki/ca-trust/extracted",
		"/etc/crypto-policies", "/etc/ca-certificates/extracted",
		"/etc/os-release", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path",
	} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return sys, fmt.Errorf("look at the host's system files: %w", err)
		}
		switch mode := info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return sys, fmt.Errorf("look at the host's system files: %w", err)
			}
			sys.links = append(sys.links, initproto.Link{Path: path, Target: target})
		case mode.IsDir():
			if path != "/usr" && insideUsr(path) {
				continue
			}
			sys.mounts = append(sys.mounts, initproto.Mount{Dest: path, Source: path})
		case mode.IsRegular():
			sys.mounts = append(sys.mounts, initproto.Mount{Dest: path, Source: path, File: true})
		}
	}
	return sys, nil
}

// insideUsr tells a directory like /lib that is the same as /usr/lib by other
// means than a link.
func insideUsr(path string) bool {
	a, errA := os.Stat(path)
	b, errB := os.Stat("/usr" + path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// mounter prepares mounts for the inits. As root it makes detached mounts and
// sends their descriptors: init, in its own user namespace, could not even
// see a directory that only root may enter. Rootless, init has firn's own
// rights and makes them itself from the paths.
type mounter struct{ privileged bool }

// prepare returns the list to send to an init with user namespace userns, and
// the descriptors to send with it, which the caller closes.
func (mt mounter) prepare(list []initproto.Mount, userns *os.File) ([]initproto.Mount, []int, error) {
	out := make([]initproto.Mount, 0, len(list))
	var fds []int
	for _, m := range list {
		if mt.privileged {
			fd, err := detach(m.Source, userns)
			if err != nil {
				closeFDs(fds)
				return nil, nil, err
			}
			fds = append(fds, fd)
			m.Source, m.FD = "", true
		} else {
			// The path is looked up from another root, where an absolute
			// link would lead elsewhere.
			real, err := filepath.EvalSymlinks(m.Source)
			if err != nil {
				return nil, nil, err
			}
			if m.Source, err = filepath.Abs(real); err != nil {
				return nil, nil, err
			}
		}
		out = append(out, m)
	}
	return out, fds, nil
}

// prepareDevices is prepare for the device nodes, which are as on the host.
func (mt mounter) prepareDevices() ([]initproto.Mount, []int, error) {
	var list []initproto.Mount
	var fds []int
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		m := initproto.Mount{Dest: "/dev/" + name, Source: "/dev/" + name, File: true}
		if mt.privileged {
			fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				closeFDs(fds)
				return nil, nil, fmt.Errorf("clone the mount of %s: %w", m.Source, err)
			}
			fds = append(fds, fd)
			m.Source, m.FD = "", true
		}
		list = append(list, m)
	}
	return list, fds, nil
}

// detach makes a mount of a directory or file that is attached nowhere,
// read-only, without set-user-id programs and devices. Files show the owners
// they have on disk, root as the sandbox's root, where the file system can
// map ids; otherwise they belong to nobody. Without userns nothing is mapped.
func detach(source string, userns *os.File) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return -1, fmt.Errorf("clone the mount of %s: %w", source, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	at := uint(unix.AT_EMPTY_PATH | unix.AT_RECURSIVE)
	err = unix.MountSetattr(fd, "", at, &attr)
	if err != nil && userns != nil { // a file system without mapped ids
		attr.Attr_set &^= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = 0
		err = unix.MountSetattr(fd, "", at, &attr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("protect the mount of %s: %w", source, err)
	}
	return fd, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
