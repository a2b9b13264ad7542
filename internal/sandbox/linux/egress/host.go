//go:build linux

package egress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hostAddressesAge is how old the list of the host's addresses may be when a
// connection is judged by it. Reading it costs some 50 µs; an address that was
// added since is still recognised after the dial, see Stack.judgeDialled.
const hostAddressesAge = 2 * time.Second

// HostAddresses knows the addresses of the host firn runs on. It reads them
// anew when asked and its knowledge is old, so it costs nothing when no sandbox
// connects to anything. Safe for concurrent use.
type HostAddresses struct {
	read func() ([]netip.Addr, error)
	now  func() time.Time

	mu     sync.Mutex
	known  map[netip.Addr]struct{}
	readAt time.Time
}

// NewHostAddresses returns a HostAddresses that reads with the given function;
// nil reads the network interfaces of the process's network namespace.
func NewHostAddresses(read func() ([]netip.Addr, error)) *HostAddresses {
	if read == nil {
		read = interfaceAddresses
	}
	return &HostAddresses{read: read, now: time.Now}
}

// Contains tells whether a is an address of the host. The error is that of
// reading the addresses; then the answer is unknown and nothing may be allowed
// on its strength.
func (h *HostAddresses) Contains(a netip.Addr) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.now(); h.known == nil || now.Sub(h.readAt) >= hostAddressesAge {
		list, err := h.read()
		if err != nil {
			return false, fmt.Errorf("read the host's addresses: %w", err)
		}
		h.known = make(map[netip.Addr]struct{}, len(list))
		for _, a := range list {
			h.known[a.Unmap().WithZone("")] = struct{}{}
		}
		h.readAt = now
	}
	_, own := h.known[a.Unmap().WithZone("")]
	return own, nil
}

func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(list))
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	return out, nil
}

// HostResolvers returns the DNS servers that the host itself uses, from its
// /etc/resolv.conf. A host without that file has none.
func HostResolvers() ([]netip.AddrPort, error) {
	f, err := os.Open("/etc/resolv.conf")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("host's resolvers: %w", err)
	}
	defer f.Close()
	list, err := ParseResolvers(f)
	if err != nil {
		return nil, fmt.Errorf("host's resolvers: %w", err)
	}
	return list, nil
}

// Bounds of a resolv.conf: more than the three servers that the C library uses
// make no sense, and a file of that size is not one.
const (
	maxResolvers      = 3
	maxResolvConfSize = 64 << 10
)

// ParseResolvers reads the nameserver lines of a resolv.conf(5). Lines it does
// not understand are skipped, as the C library does.
func ParseResolvers(r io.Reader) ([]netip.AddrPort, error) {
	var list []netip.AddrPort
	lines := bufio.NewScanner(io.LimitReader(r, maxResolvConfSize))
	for lines.Scan() && len(list) < maxResolvers {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			list = append(list, netip.AddrPortFrom(a.Unmap(), 53))
		}
	}
	return list, lines.Err()
}
