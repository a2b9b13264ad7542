// Package guest runs test programs in a virtual machine: another kernel, with
// control groups of version 2 alone, whatever the machine that tests run on
// has. It is for tests only.
//
// The machine is QEMU's, without hardware help (TCG), so it works wherever
// QEMU does; a Linux kernel as distributions build it for clouds is up in some
// seconds. There is no disk and no image: the root directory is a cpio archive
// made for each run, with the program to test, an init of ours (guestinit), the
// kernel modules that sandboxes need, and busybox where the host has a static
// one. The guest has two serial lines, the kernel's console and the program's
// output, and no network but its loopback.
//
// A guest is slow, perhaps a tenth of the host's speed: no test may judge
// times in it.
//
// The kernel is found by the path in FIRN_GUEST_KERNEL, else in the cache
// directory that .ci/install-guest fills, else in /boot. Modules are taken
// from lib/modules beside the boot directory that the kernel is in.
package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

// Feature is the name under which a missing guest skips a test, or fails it;
// see package require.
const Feature = "guest"

// Config is one run of a guest.
type Config struct {
	// Kernel is the path of the kernel; "" takes the first of Kernels.
	Kernel string
	// Files are put into the guest: path there to path here. Programs have
	// to be static; permissions are kept.
	Files map[string]string
	// Command is run as root in /root, its output passed on line by line.
	Command []string
	// Env is added to PATH, HOME and TMPDIR; FIRN_REQUIRE is a good one.
	Env []string
	// MemoryMB is the size of the machine; 0 means 768.
	MemoryMB int
	// Output receives what the command writes; nil means the test's log.
	Output io.Writer
}

// Result is how a run ended.
type Result struct {
	// Code is the command's exit status; 128 and the signal's number when a
	// signal ended it.
	Code int
	// Boot is the time from the start of QEMU to the start of the command,
	// Total until QEMU ended.
	Boot, Total time.Duration
}

// Require skips the test, visibly, where no guest can run, or fails it where
// FIRN_REQUIRE lists [Feature].
func Require(t testing.TB) {
	t.Helper()
	_, err := exec.LookPath(qemu)
	require.Feature(t, Feature, err == nil, "QEMU guest kernel: "+qemu+" is not installed; see .ci/install-guest")
	require.Feature(t, Feature, len(Kernels()) > 0, "QEMU guest kernel: no kernel found; see .ci/install-guest")
}

const qemu = "qemu-system-x86_64"

// Run starts a guest, runs the command in it and returns when the guest has
// ended. A guest that does not come up, or that ctx ends, fails the test. The
// caller has called [Require].
func Run(ctx context.Context, t testing.TB, cfg Config) Result {
	t.Helper()
	if cfg.Kernel == "" {
		cfg.Kernel = Kernels()[0]
	}
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 768
	}
	if cfg.Output == nil {
		cfg.Output = logWriter{t}
	}
	dir := t.TempDir()
	mark := "firn-guest-" + rand.Text()[:8]
	initrd := filepath.Join(dir, "initrd")
	if err := makeInitrd(ctx, initrd, cfg, mark); err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(dir, "console")
	res, err := boot(ctx, machine{cfg: cfg, initrd: initrd, console: console, mark: mark})
	if err != nil {
		text, _ := os.ReadFile(console)
		t.Fatalf("guest: %v\nkernel's console:\n%s", err, tail(text, 4000))
	}
	return res
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimRight(string(b), "\r\n"))
	return len(b), nil
}

func tail(b []byte, n int) []byte {
	return b[max(0, len(b)-n):]
}

// machine is a guest about to be started.
type machine struct {
	cfg             Config
	initrd, console string // paths
	mark            string // begins the lines that our init writes for us
}

// bootline is the kernel's command line. On a busy host the kernel fails to
// measure the processor's clock against an emulated timer, and some then hang:
// so it is told the results, which need not be right.
const bootline = "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t cgroup_no_v1=all random.trust_cpu=on mitigations=off " +
	"tsc_early_khz=2000000 lpj=4000000 no_timer_check"

// args is QEMU's command line. Both processors run on one thread: with a
// thread each, QEMU 7.2 executes half-written instructions now and then when a
// kernel patches its own code.
func (m machine) args() []string {
	return []string{
		"-M", "microvm,x-option-roms=off,rtc=on,isa-serial=off", "-accel", "tcg,thread=single", "-cpu", "max",
		"-m", strconv.Itoa(m.cfg.MemoryMB), "-smp", "2",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", m.cfg.Kernel, "-initrd", m.initrd,
		"-append", bootline,
		"-chardev", "file,id=console,path=" + m.console, "-device", "isa-serial,chardev=console,iobase=0x3f8,irq=4",
		"-chardev", "stdio,id=out,signal=off", "-device", "isa-serial,chardev=out,iobase=0x2f8,irq=3",
	}
}

// boot runs the machine to its end.
func boot(ctx context.Context, m machine) (Result, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, qemu, m.args()...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	res, readErr := follow(out, m, began)
	err = cmd.Wait()
	res.Total = time.Since(began)
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("given up after %v: %w", res.Total, context.Cause(ctx))
	case err != nil:
		return res, fmt.Errorf("%s: %w: %s", qemu, err, stderr.Bytes())
	}
	return res, readErr
}

// follow passes the command's output on until the line with its exit status.
func follow(r io.Reader, m machine, began time.Time) (Result, error) {
	var res Result
	lines := bufio.NewReader(r)
	found := false
	for {
		line, err := lines.ReadString('\n')
		text := strings.TrimRight(line, "\r\n")
		switch rest, ours := strings.CutPrefix(text, m.mark+" "); {
		case ours && rest == "ready":
			res.Boot = time.Since(began)
		case ours:
			n, convErr := strconv.Atoi(strings.TrimPrefix(rest, "exit "))
			if convErr != nil {
				return res, fmt.Errorf("unexpected report %q", text)
			}
			res.Code, found = n, true
		case line != "" && !found:
			if _, err := io.WriteString(m.cfg.Output, text+"\n"); err != nil {
				return res, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return res, err
		}
	}
	if !found {
		return res, errors.New("the guest ended without reporting an exit status")
	}
	return res, nil
}
