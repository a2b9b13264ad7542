//go:build linux

package linux

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// rootlessVariable marks the child that runs tests as an ordinary user.
const rootlessVariable = "FIRN_TEST_ROOTLESS"

// ordinaryUser is a user id that nobody has.
const ordinaryUser = 1500

// TestRootless runs the tests again as an ordinary user, in a child.
func TestRootless(t *testing.T) {
	asOrdinaryUser(t, nil)
}

// TestRootlessNetwork runs those that need a network as an ordinary user who
// may open the TUN device, as on most distributions.
func TestRootlessNetwork(t *testing.T) {
	_, err := os.Stat(tun.DevicePath)
	require.Feature(t, "tun", err == nil, tun.DevicePath+" is missing")
	asOrdinaryUser(t, func(cmd *exec.Cmd) {
		cmd.Args = append(cmd.Args, "-test.run=TestConformance/.*(network|internet|listener).*|TestCloseLeavesNothing|TestPoolIsUsed")
		cmd.Env = append(cmd.Env, grantVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	})
}

// grantVariable makes the test binary, as root in a mount namespace of its
// own, open the TUN device to everybody and go on as an ordinary user.
const grantVariable = "FIRN_TEST_GRANT"

func grantTUN() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", filepath.Dir(tun.DevicePath), "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if err := unix.Mknod(tun.DevicePath, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return err
	}
	if err := os.Chmod(tun.DevicePath, 0o666); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(ordinaryUser), syscall.Setuid(ordinaryUser)); err != nil {
		return err
	}
	if err := os.Unsetenv(grantVariable); err != nil {
		return err
	}
	return syscall.Exec(os.Args[0], os.Args, os.Environ())
}

func asOrdinaryUser(t *testing.T, change func(*exec.Cmd)) {
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("this is the child")
	}
	require.Feature(t, "root", os.Geteuid() == 0, "it becomes somebody else")
	dir := publicDir(t)
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(tmp, ordinaryUser, ordinaryUser); err != nil {
		t.Fatal(err)
	}
	// Go's temporary directories are the test's own: open the way to it.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "test")
	copyFile(t, "/proc/self/exe", self)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.v="+strconv.FormatBool(testing.Verbose()), "-test.timeout=200s")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), rootlessVariable+"=1", "TMPDIR="+tmp, "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	if change != nil {
		change(cmd)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
