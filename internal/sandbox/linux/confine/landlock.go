//go:build linux

package confine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights by the Landlock version that brought them.
const (
	fsReadExec = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsV1       = 1<<13 - 1
	fsRefer    = unix.LANDLOCK_ACCESS_FS_REFER     // 2
	fsTruncate = unix.LANDLOCK_ACCESS_FS_TRUNCATE  // 3
	fsIoctlDev = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV // 5

	scopeAbstractUnix = 1 << 0 // 6
	scopeSignal       = 1 << 1 // 6
)

// rulesetAttr is struct landlock_ruleset_attr; older kernels take a shorter
// one, so the size passed follows the version.
type rulesetAttr struct {
	accessFS  uint64
	accessNet uint64
	scoped    uint64
}

// pathBeneath is struct landlock_path_beneath_attr, which is packed: 12 bytes.
type pathBeneath struct {
	access uint64
	fd     int32
}

const pathBeneathRule = 1

// LandlockABI is the version of Landlock that the kernel offers, 0 for none.
func LandlockABI() int {
	v, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// restrictFiles lets the thread read and execute everything in its root, and
// write below /tmp and to devices only, whatever mounts and modes say. From
// version 6 on processes outside of the domain (init) get no signals from it.
// A kernel without Landlock is no failure: the mounts say the same.
func restrictFiles() error {
	abi := LandlockABI()
	if abi < 1 {
		return nil
	}
	attr, size := ruleset(abi)
	fd, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return failed("create a Landlock ruleset", errno)
	}
	defer unix.Close(int(fd))
	rules := []struct {
		path   string
		access uint64
	}{
		{"/", fsReadExec},
		{"/tmp", attr.accessFS},
		{"/dev", fsReadExec | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | attr.accessFS&(fsTruncate|fsIoctlDev)},
	}
	for _, r := range rules {
		if err := allow(int(fd), r.path, r.access); err != nil {
			return err
		}
	}
	_, _, errno = unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	return failed("enter the Landlock domain", errno)
}

func ruleset(abi int) (rulesetAttr, uintptr) {
	attr := rulesetAttr{accessFS: fsV1}
	size := uintptr(8)
	if abi >= 2 {
		attr.accessFS |= fsRefer
	}
	if abi >= 3 {
		attr.accessFS |= fsTruncate
	}
	if abi >= 4 {
		size = 16
	}
	if abi >= 5 {
		attr.accessFS |= fsIoctlDev
	}
	if abi >= 6 {
		attr.scoped = scopeAbstractUnix | scopeSignal
		size = 24
	}
	return attr, size
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open "+path+" for Landlock", err.(unix.Errno))
	}
	defer unix.Close(fd)
	rule := pathBeneath{access: access, fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), pathBeneathRule,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	return failed("add the Landlock rule for "+path, errno)
}
