//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/cgroup"
	"github.com/firn-run/firn/internal/sandbox/linux/confine"
	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

// probeTimeout bounds the sandbox that Probe makes.
const probeTimeout = 5 * time.Second

// Probe finds out what this host gives to sandboxes. It makes a real one and
// runs a program in it, since only that proves anything; the other features
// say what is missing when it fails, and how good the isolation is when it
// does not.
func Probe(ctx context.Context, cfg Config) []sandbox.Feature {
	out := []sandbox.Feature{userNamespaces()}
	if host, err := cgroup.Detect(); err == nil {
		out = append(out, host.Features()...)
	} else {
		out = append(out, sandbox.Feature{Name: "control groups", Detail: err.Error(), Fix: "mount /proc and the control groups"})
	}
	out = append(out, egress.Features()...)
	out = append(out, overlays(), mappedMounts(), seccomp(), landlock(), kvm(), gvisor())
	return append(out, wholeSandbox(ctx, cfg))
}

// wholeSandbox starts /bin/true, or whatever firn finds first, in a sandbox.
func wholeSandbox(ctx context.Context, cfg Config) sandbox.Feature {
	f := sandbox.Feature{Name: "a whole sandbox", Needed: true}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	cfg.PoolSize, cfg.PoolMax, cfg.DegradeNetwork, cfg.Name = 0, 0, true, "doctor"
	err := runOnce(ctx, cfg)
	if err != nil {
		f.Detail = err.Error()
		f.Fix = "see the missing features above; --sandbox process works anywhere and isolates nothing"
		return f
	}
	f.OK, f.Detail = true, fmt.Sprintf("made, used and removed in %v", time.Since(began).Round(time.Millisecond))
	return f
}

func runOnce(ctx context.Context, cfg Config) (err error) {
	b, err := New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	dir, err := os.MkdirTemp("", "firn-doctor-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the function is another user
		return err
	}
	s, err := b.Create(ctx, sandbox.Spec{ID: "doctor", TaskDir: dir, MemoryMB: 128, EphemeralStorageMB: 512, Network: b.cfg.Network})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p, err := s.Start(ctx, sandbox.Command{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 42"}, Dir: "/var/task"})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if e := p.Exit(); e.Code != 42 {
		return fmt.Errorf("a program in the sandbox ended in an unexpected way: %+v", e)
	}
	return nil
}

// userNamespaces looks at the switches by which distributions forbid them to
// ordinary users. Root is bound by the first only.
func userNamespaces() sandbox.Feature {
	f := sandbox.Feature{Name: "user namespaces", Needed: true}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		f.Detail, f.Fix = "the kernel has none", "use a kernel with CONFIG_USER_NS"
		return f
	}
	root := hasRights()
	for _, s := range []struct {
		path, bad, detail, fix string
		root                   bool
	}{
		{"/proc/sys/user/max_user_namespaces", "0", "switched off", "sysctl -w user.max_user_namespaces=100000", true},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "for root only", "sysctl -w kernel.unprivileged_userns_clone=1, or run firn as root", false},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "restricted by AppArmor for ordinary users",
			"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for firn with `userns,`, or run firn as root", false},
	} {
		value, err := os.ReadFile(s.path)
		if err == nil && strings.TrimSpace(string(value)) == s.bad && (s.root || !root) {
			f.Detail, f.Fix = s.detail, s.fix
			return f
		}
	}
	f.OK, f.Detail = true, "as an ordinary user: functions run as your own user id, in namespaces"
	if root {
		f.Detail = "as root: every sandbox has user ids of its own"
	}
	return f
}

func overlays() sandbox.Feature {
	f := sandbox.Feature{Name: "overlayfs"}
	list, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(list), "\toverlay\n") {
		f.OK, f.Detail = true, "for functions that bring an image"
		return f
	}
	f.Detail, f.Fix = "not known to the kernel; functions that bring an image cannot run", "modprobe overlay"
	return f
}

// mappedMounts tries what detach does, on the host's libraries.
func mappedMounts() sandbox.Feature {
	f := sandbox.Feature{Name: "detached mounts with mapped ids"}
	if !hasRights() {
		f.Detail = "for root only; files of the host show as owned by nobody inside"
		f.Fix = "nothing to do: nothing depends on it"
		return f
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/usr", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		f.Detail, f.Fix = "open_tree: "+err.Error(), "use Linux 5.12 or later"
		f.Needed = true
		return f
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		f.Detail, f.Fix = "mount_setattr: "+err.Error(), "use Linux 5.12 or later"
		f.Needed = true
		return f
	}
	f.OK, f.Detail = true, "code and layers are attached to prepared sandboxes"
	return f
}

func seccomp() sandbox.Feature {
	f := sandbox.Feature{Name: "seccomp", Needed: true}
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		f.Detail, f.Fix = "the kernel has no system call filters", "use a kernel with CONFIG_SECCOMP_FILTER"
		return f
	}
	f.OK, f.Detail = true, fmt.Sprintf("a filter of %d instructions", len(confine.Filter()))
	return f
}

func landlock() sandbox.Feature {
	f := sandbox.Feature{Name: "Landlock"}
	abi := confine.LandlockABI()
	switch {
	case abi == 0:
		f.Detail, f.Fix = "not there; mounts alone keep functions from writing", "boot with lsm=landlock,... on Linux 5.13 or later"
	case abi < 6:
		f.OK, f.Detail = true, fmt.Sprintf("version %d (6 and later also bound signals)", abi)
	default:
		f.OK, f.Detail = true, fmt.Sprintf("version %d", abi)
	}
	return f
}

func kvm() sandbox.Feature {
	f := sandbox.Feature{Name: "KVM", Detail: "not there; firn does not need it", Fix: "nothing to do"}
	if _, err := os.Stat("/dev/kvm"); err == nil {
		f.OK, f.Fix = true, ""
		f.Detail = "/dev/kvm is there, which proves nothing: it may be emulated. firn does not use it"
	}
	return f
}

func gvisor() sandbox.Feature {
	f := sandbox.Feature{Name: "gVisor"}
	path, err := exec.LookPath("runsc")
	if err != nil {
		f.Detail, f.Fix = "no runsc in PATH; firn does not need it", "install runsc from gvisor.dev for stronger isolation"
		return f
	}
	f.OK, f.Detail = true, path
	return f
}
