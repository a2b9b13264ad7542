//go:build linux

package linux

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox"
)

// needTemplate makes a backend whose sandboxes are copies of a template.
func needTemplate(t *testing.T) *Backend {
	t.Helper()
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("rootless every init builds its root by itself")
	}
	b := open(t, func(c *Config) { c.Network = sandbox.NetworkNone })
	require.Feature(t, "root", b.privileged, "without rights every init builds its root by itself")
	if maps := b.mapsTemplate(t); os.Getenv(guestVariable) == "" { // the guests' kernels are as old as we like
		require.Feature(t, "root", maps, "this kernel maps no owners in a tmpfs")
	} else if !maps {
		t.Skip("this kernel maps no owners in a tmpfs")
	}
	return b
}

// mapsTemplate makes an init and says whether it got a copy.
func (b *Backend) mapsTemplate(t *testing.T) bool {
	t.Helper()
	slot, err := b.slots.take()
	if err != nil {
		t.Fatal(err)
	}
	k := &blank{b: b, slot: slot}
	defer func() {
		if err := k.destroy(); err != nil {
			t.Error(err)
		}
	}()
	born, err := k.spawn(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if born.tree < 0 {
		return false
	}
	closeFDs([]int{born.tree})
	return true
}

// A copy has owners of its own, and devices.
func TestCopyOfTheTemplate(t *testing.T) {
	b := needTemplate(t)
	for range 2 {
		s := create(t, b, nil)
		const script = `stat -c '%n %U:%G %A' / /etc /etc/hosts /usr /dev /dev/null /tmp; echo x >/dev/null; head -c2 /dev/zero | wc -c
			[ -c /dev/tty ] && test -e /dev/pts/ptmx && readlink /dev/ptmx; : >/dev/full || echo full`
		out, exit := shell(t, s, script)
		want := `/ root:root drwxr-xr-x
/etc root:root drwxr-xr-x
/etc/hosts root:root -rw-r--r--
/usr root:root drwxr-xr-x
/dev root:root drwxr-xr-x
/dev/null root:root crw-rw-rw-
/tmp root:root drwxrwxrwt
2
pts/ptmx
`
		if out != want || exit.Code != 0 {
			t.Errorf("%+v\n%s\nwant\n%s", exit, out, want)
		}
	}
}

// An update of the host makes a new template.
func TestTemplateFollowsTheHost(t *testing.T) {
	b := needTemplate(t)
	root := b.spawner.root
	root.mu.Lock()
	root.seen[0].ino++ // as if another file had been there
	root.mu.Unlock()
	if out, exit := shell(t, create(t, b, nil), "echo fine"); out != "fine\n" || exit.Code != 0 {
		t.Errorf("%q, %+v", out, exit)
	}
	root.mu.Lock()
	seen, now := root.seen, root.files.identities()
	root.mu.Unlock()
	if !slices.Equal(seen, now) {
		t.Errorf("the template was made of %v, the host has %v", seen, now)
	}
	if !b.mapsTemplate(t) {
		t.Error("the new template is not used")
	}
}

// onSpareThread runs f on a thread that ends with it. That is never the
// process's first: Go does not end that one, and what it sees is what /proc/self
// shows to all.
func onSpareThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			result <- onSpareThread(f) // held here, it cannot be taken again
			return
		}
		result <- f()
	}()
	return <-result
}

// Whoever could take the root of a sandbox away, as none of its processes can,
// would find nothing of the host below.
func TestNothingOfTheHostBelow(t *testing.T) {
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("rootless pivot_root takes the host's files away")
	}
	b := open(t, func(c *Config) { c.Network = sandbox.NetworkNone })
	require.Feature(t, "root", b.privileged, "without rights pivot_root takes the host's files away")
	s := create(t, b, nil).(*box)
	if out, _ := shell(t, s, "echo there"); out != "there\n" { // init has opened what it needs
		t.Fatalf("%q", out)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var above, below []string
	var mounts []byte
	err = onSpareThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		above = strings.Fields(names("/"))
		if err := unix.Unmount("/", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("umount: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("setns again: %w", err)
		}
		below = strings.Fields(names("/"))
		var err error
		mounts, err = os.ReadFile("/proc/thread-self/mountinfo")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(above) < 10 {
		t.Errorf("the sandbox's root has only %q", above)
	}
	if got := strings.Join(below, " "); got != "proc root" {
		t.Errorf("below the sandbox's root there are %q", got)
	}
	for line := range strings.Lines(string(mounts)) {
		at := strings.Fields(line)[4]
		switch {
		case at == "/proc" && !strings.Contains(line, "hidepid=ptraceable"):
			t.Errorf("a procfs that shows foreign processes: %s", line)
		case at != "/" && at != "/proc" && at != "/root" && !strings.HasPrefix(at, "/root/"):
			t.Errorf("below the sandbox's root there is the mount %s", line)
		}
	}
}
