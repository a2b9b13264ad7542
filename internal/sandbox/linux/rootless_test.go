//go:build linux

package linux

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// rootlessVariable marks the child that runs tests as an ordinary user.
const rootlessVariable = "FIRN_TEST_ROOTLESS"

// ordinaryUser is a user id that nobody has.
const ordinaryUser = 1500

// TestRootless runs the tests again as an ordinary user, in a child.
func TestRootless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("this is the child")
	}
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
	args := []string{"-test.v=false", "-test.timeout=200s"}
	if testing.Verbose() {
		args[0] = "-test.v=true"
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), rootlessVariable+"=1", "TMPDIR="+tmp, "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
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
