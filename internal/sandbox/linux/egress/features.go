//go:build linux

package egress

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// Features tells what the host offers to this package, for `firn doctor`.
// Without the device, sandboxes have no outbound network.
func Features() []sandbox.Feature {
	f := sandbox.Feature{Name: "TUN device"}
	fd, err := unix.Open(tun.DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		_ = unix.Close(fd)
		f.OK, f.Detail = true, tun.DevicePath+" can be opened"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		f.Detail = tun.DevicePath + " is not there: " + err.Error()
		f.Fix = "load the module with `modprobe tun`, or give the container the device (docker run --device /dev/net/tun)"
	case errors.Is(err, fs.ErrPermission):
		f.Detail = tun.DevicePath + " may not be opened by this user: " + err.Error()
		f.Fix = "as root: `chmod 0666 /dev/net/tun` (the default of most distributions; a process still needs rights over a network namespace to use it)"
	default:
		f.Detail = tun.DevicePath + ": " + err.Error()
		f.Fix = "check the device with `ls -l /dev/net/tun`"
	}
	return []sandbox.Feature{f, resolvers()}
}

// resolvers tells which DNS servers functions will be answered by.
func resolvers() sandbox.Feature {
	f := sandbox.Feature{Name: "DNS resolvers"}
	list, err := HostResolvers()
	switch {
	case err != nil:
		f.Detail, f.Fix = err.Error(), "make /etc/resolv.conf readable"
	case len(list) == 0:
		f.Detail = "the host's /etc/resolv.conf names none"
		f.Fix = "add a nameserver line to /etc/resolv.conf; functions cannot resolve names without"
	default:
		names := make([]string, len(list))
		for i, r := range list {
			names[i] = r.Addr().String()
		}
		f.OK, f.Detail = true, strings.Join(names, ", ")
	}
	return f
}
