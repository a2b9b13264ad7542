//go:build linux

// Command guestinit is process 1 of the test guest: it makes an ordinary
// Linux system out of the kernel's first root directory, runs one command,
// reports how it ended, and stops the machine. See package guest.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is what package guest puts into /job.json.
type job struct {
	Command []string
	Env     []string
	Modules []string // paths, in the order of loading
	Mark    string   // begins the line that reports the exit status
}

func main() {
	out, code, err := run()
	mark := "guest"
	if j, e := readJob(); e == nil {
		mark = j.Mark
	}
	if err != nil {
		fmt.Fprintln(out, "guestinit:", err)
		code = 125
	}
	fmt.Fprintf(out, "\n%s exit %d\n", mark, code)
	if f, ok := out.(*os.File); ok { // let the last bytes leave
		_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func readJob() (job, error) {
	var j job
	b, err := os.ReadFile("/job.json")
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	return j, err
}

// run does everything up to the end of the command. out is valid even when
// err is not nil.
func run() (out io.Writer, code int, err error) {
	out = os.Stdout
	if err := newRoot(); err != nil {
		return out, 0, err
	}
	if err := mounts(); err != nil {
		return out, 0, err
	}
	tty, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return out, 0, err
	}
	out = tty
	if err := rawTerminal(tty); err != nil {
		return out, 0, err
	}
	j, err := readJob()
	if err != nil {
		return out, 0, err
	}
	fmt.Fprintf(out, "%s ready\n", j.Mark)
	for _, m := range j.Modules {
		if err := loadModule(m); err != nil {
			fmt.Fprintf(out, "guestinit: module %s: %v\n", m, err)
		}
	}
	if err := errors.Join(loopbackUp(), unix.Sethostname([]byte("guest"))); err != nil {
		return out, 0, err
	}
	cmd := exec.Command(j.Command[0], j.Command[1:]...)
	cmd.Env = append([]string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TMPDIR=/tmp"}, j.Env...)
	cmd.Dir = "/root"
	cmd.Stdout, cmd.Stderr = tty, tty
	code, err = await(cmd)
	return out, code, err
}

// await runs cmd and, as process 1 must, reaps every orphan meanwhile.
func await(cmd *exec.Cmd) (int, error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if pid != cmd.Process.Pid {
			continue
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}

// newRoot copies the kernel's first root into a tmpfs and goes there:
// pivot_root, which sandboxes need, does not work from the first root.
func newRoot() error {
	const dst = "/newroot"
	if err := os.Mkdir(dst, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dst, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == dst {
			return fs.SkipDir
		}
		return copyEntry(path, filepath.Join(dst, path), d)
	})
	if err != nil {
		return fmt.Errorf("copy the root: %w", err)
	}
	return errors.Join(unix.Chdir(dst), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/"))
}

func copyEntry(from, to string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return os.Chmod(to, info.Mode().Perm())
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !d.Type().IsRegular():
		return nil
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close(), os.Remove(from)) // the memory is needed
}

func mounts() error {
	for _, m := range []struct{ kind, dir, options string }{
		{"devtmpfs", "/dev", ""},
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"devpts", "/dev/pts", ""},
		{"tmpfs", "/dev/shm", "mode=1777"},
		{"tmpfs", "/tmp", "mode=1777"},
		{"tmpfs", "/run", "mode=755"},
	} {
		_ = os.MkdirAll(m.dir, 0o755)
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		_ = os.Symlink(target, link)
	}
	return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") // as systemd leaves it
}

// rawTerminal turns the translation of line ends off.
func rawTerminal(f *os.File) error {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// loopbackUp brings 127.0.0.1 up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}
