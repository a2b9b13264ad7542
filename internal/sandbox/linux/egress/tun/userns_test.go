//go:build linux

package tun_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// roleVariable tells the copy of the test binary in the sandbox what to do.
const roleVariable = "FIRN_TUN_TEST_ROLE"

// controlFD is the copy's end of the control socket.
const controlFD = 3

// TestMain plays the part of the init program when asked to.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := beInit(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beInit makes the device when its role is "maker", tells the parent that it is
// ready, and lives until the parent closes the socket.
func beInit(role string) error {
	var rights []byte
	if role == "maker" {
		f, err := tun.OpenHere()
		if err != nil {
			return err
		}
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		// Not f.Fd(): it would make the descriptor, and with it the
		// parent's, a blocking one.
		if err := raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) }); err != nil {
			return err
		}
		defer f.Close()
	}
	if err := unix.Sendmsg(controlFD, []byte{'R'}, rights, nil, 0); err != nil {
		return err
	}
	_, err := unix.Read(controlFD, make([]byte, 1))
	return err
}

// startInit runs a copy in user and network namespaces of its own, and returns
// what it sent: the number of its process, and a descriptor or -1.
func startInit(t *testing.T, role string) (pid, fd int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]) })
	theirs := os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	err = cmd.Start()
	require.Feature(t, "user namespaces", err == nil, fmt.Sprint(err))
	t.Cleanup(func() { _ = cmd.Wait() }) // ended by the context, or by itself
	theirs.Close()
	timeout := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	space := make([]byte, unix.CmsgSpace(4))
	n, size, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), space, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n != 1 {
		t.Fatalf("the child did not report: %d, %v", n, err)
	}
	return cmd.Process.Pid, receivedFD(t, space[:size])
}

func receivedFD(t *testing.T, control []byte) int {
	t.Helper()
	if len(control) == 0 {
		return -1
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	return fds[0]
}

// needDevice skips where the device cannot be opened.
func needDevice(t *testing.T) {
	t.Helper()
	fd, err := unix.Open(tun.DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	require.Feature(t, "tun", err == nil, fmt.Sprintf("%s: %v", tun.DevicePath, err))
}

// Root of the host makes the device of a sandbox that has its own user
// namespace.
func TestOpenFromTheHost(t *testing.T) {
	needDevice(t)
	require.Feature(t, "root", os.Geteuid() == 0, "entering another user namespace's network takes root")
	pid, _ := startInit(t, "host")
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	f, err := tun.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pollable(t, f)
}

// The rootless way: init makes the device inside and sends the descriptor.
func TestOpenHereAndSend(t *testing.T) {
	needDevice(t)
	_, fd := startInit(t, "maker")
	if fd < 0 {
		t.Fatal("no descriptor came")
	}
	f := os.NewFile(uintptr(fd), tun.DevicePath)
	defer f.Close()
	pollable(t, f)
}

// pollable checks that reading the device waits in the poller and can be given
// a deadline, which is what package egress needs of it.
func pollable(t *testing.T, f *os.File) {
	t.Helper()
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, tun.MTU)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v; want to wait for the deadline", n, err)
	}
}
