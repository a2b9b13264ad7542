//go:build linux

package egress_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

// serveUDP answers datagrams at an address of the host with what f returns;
// nil is no answer.
func serveUDP(t testing.TB, host string, f func([]byte) []byte) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := f(buf[:n]); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

func same(b []byte) []byte { return b }

func TestUDPEcho(t *testing.T) {
	needNetwork(t)
	address := serveUDP(t, hostPrivate, same)
	b := newBox(t, egress.Config{Policy: allowPrivate()})
	c := b.connect("udp4", address)
	// Sizes around nothing, one packet of the device, and the largest there is,
	// which takes fragments.
	for _, size := range []int{0, 1, 1400, 9000, 65400, 65507} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got := make([]byte, 1<<16)
		n, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:n], sent) {
			t.Fatalf("%d bytes: got %d back, %v", size, n, err)
		}
	}
	if s := b.stack.Stats(); s.UDP != 1 || s.Opened != 1 {
		t.Errorf("stats %+v, want one flow", s)
	}
}

func TestUDPFlowsEndAndAreLimited(t *testing.T) {
	needNetwork(t)
	address := serveUDP(t, hostPrivate, same)
	b := newBox(t, egress.Config{Policy: allowPrivate(), Limits: egress.Limits{MaxUDP: 2, UDPIdle: 150 * time.Millisecond}})
	answered := func() bool {
		c := b.connect("udp4", address)
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return err == nil
	}
	if one, two, three := answered(), answered(), answered(); !one || !two || three {
		t.Errorf("answers to flows 1 to 3: %t %t %t, want two", one, two, three)
	}
	eventually(t, "flows ended", func() bool { return b.stack.Stats().UDP == 0 })
	if !answered() {
		t.Error("no answer after idle flows ended")
	}
}

func TestRefusedUDPIsDropped(t *testing.T) {
	needNetwork(t)
	got := make(chan struct{}, 10)
	hear := func([]byte) []byte { got <- struct{}{}; return nil }
	private, public := serveUDP(t, hostPrivate, hear), serveUDP(t, hostPublic, hear)
	b := newBox(t, egress.Config{})
	for _, to := range []string{private, public, "169.254.169.254:80"} {
		if _, err := b.connect("udp4", to).Write([]byte("x")); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
	eventually(t, "all were refused", func() bool { return b.stack.Stats().Refused == 3 })
	select {
	case <-got:
		t.Error("a refused datagram arrived")
	default:
	}
	// A port of the gateway where nothing is says so.
	c := b.connect("udp4", "169.254.76.1:54")
	_, _ = c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
}

// question makes a DNS query for the address of a name.
func question(name string, id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// answer makes the answer to a query: one address record.
func answer(query []byte, a netip.Addr) []byte {
	name := bytes.IndexByte(query[12:], 0) // the question only: no EDNS record
	b := bytes.Clone(query[:12+name+5])
	b[2] |= 0x80
	b[7], b[11] = 1, 0
	b = append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
	return append(b, a.AsSlice()...)
}

// lookup asks the gateway with Go's own resolver, from inside.
func (b *box) lookup(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return b.dial(ctx, network[:3]+"4", "169.254.76.1:53")
	}}
	ips, err := r.LookupIP(ctx, "ip4", name)
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out, err
}

func TestDNS(t *testing.T) {
	needNetwork(t)
	metadata := netip.MustParseAddr("169.254.169.254")
	good := serveUDP(t, "127.0.0.1", func(q []byte) []byte {
		if bytes.Contains(q, []byte("big")) {
			return append(answer(q, metadata), make([]byte, 5000)...)
		}
		return answer(q, metadata)
	})
	// The same port over TCP, for what does not fit into a datagram.
	l, err := net.Listen("tcp4", good)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			_, _ = io.ReadFull(c, size[:])
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			_, _ = io.ReadFull(c, q)
			a := answer(q, netip.MustParseAddr("9.9.9.9"))
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
			c.Close()
		}
	})
	silent := serveUDP(t, "127.0.0.1", func([]byte) []byte { return nil })
	b := newBox(t, egress.Config{
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort(silent), netip.MustParseAddrPort(good)},
		Limits:    egress.Limits{DNSTimeout: 60 * time.Millisecond},
	})
	got, err := b.lookup("metadata.example.com")
	if err != nil || len(got) != 1 || got[0] != metadata.String() {
		t.Fatalf("got %v, %v", got, err)
	}
	// The name resolved, and it changes nothing.
	if _, err := b.dial(t.Context(), "tcp4", net.JoinHostPort(got[0], "80")); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial: %v, want ECONNREFUSED", err)
	}
	if got, err := b.lookup("big.example.com"); err != nil || len(got) != 1 || got[0] != "9.9.9.9" {
		t.Errorf("over TCP: got %v, %v", got, err)
	}
}

func TestDNSFailsQuicklyWithoutResolvers(t *testing.T) {
	needNetwork(t)
	b := newBox(t, egress.Config{})
	start := time.Now()
	_, err := b.lookup("example.com")
	var dns *net.DNSError
	if !errors.As(err, &dns) || dns.IsNotFound || !dns.IsTemporary || dns.IsTimeout {
		t.Errorf("got %#v, want a server failure", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestIPv6IsUnreachable(t *testing.T) {
	needNetwork(t)
	b := newBox(t, egress.Config{})
	_, err := b.dial(t.Context(), "tcp6", "[2606:4700:4700::1111]:80")
	if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v, want ENETUNREACH at once", err)
	}
	if b.stack.Stats().Awake {
		t.Error("IPv6 woke the stack")
	}
}
