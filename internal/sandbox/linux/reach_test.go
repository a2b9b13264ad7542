//go:build linux

package linux

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox"
)

// What firn asks for wakes an init that rests; a frozen one answers after the
// thaw.
func TestRestAndDial(t *testing.T) {
	s, _ := resting(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a frozen sandbox: %v", err)
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	// Two sockets are there: no more than one was asked for.
	for range 2 {
		if _, err := s.Dial(t.Context(), 1); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("of one that rested: %v", err)
		}
	}
	d, err := s.Daemon(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := d.LocalAddr().String(); got != s.DaemonAddr() {
		t.Errorf("bound to %s", got)
	}
	// It rests again, and what is open stays open.
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	needRest(t, s)
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Daemon(t.Context()); err != nil || again != d {
		t.Errorf("%v, %v", again, err)
	}
}

// The C library finds the names too; Go's own resolver has a row in the suite.
func TestNamesInC(t *testing.T) {
	_, err := exec.LookPath("/usr/bin/getent")
	require.Feature(t, "getent", err == nil, "no /usr/bin/getent to run inside")
	s := create(t, open(t, func(c *Config) { c.Network = sandbox.NetworkNone }), nil)
	for _, name := range []string{"sandbox", "sandbox.localdomain"} {
		out, exit := shell(t, s, "/usr/bin/getent ahosts "+name)
		if exit.Code != 0 || !strings.HasPrefix(out, "127.0.0.1 ") {
			t.Errorf("%s: %q, %+v", name, out, exit)
		}
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "127.0.0.1 ") {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}

// Other link-local addresses did not become the sandbox's own.
func TestLoopbackAddresses(t *testing.T) {
	s := create(t, open(t, func(c *Config) { c.Network = sandbox.NetworkNone }), nil)
	out, _ := shell(t, s, "cat /proc/net/fib_trie")
	var own []string
	for i, lines := 0, strings.Split(out, "\n"); i+1 < len(lines); i++ {
		addr := strings.TrimPrefix(strings.TrimSpace(lines[i]), "|-- ")
		if net.ParseIP(addr) != nil && strings.Contains(lines[i+1], "host LOCAL") && strings.HasPrefix(addr, "169.254.") {
			own = append(own, addr+" "+strings.Fields(lines[i+1])[0])
		}
	}
	for _, o := range own {
		if o != "169.254.79.129 /32" {
			t.Errorf("the sandbox's own: %q", own)
		}
	}
	if len(own) == 0 {
		t.Errorf("no daemon's address: %s", out)
	}
}

func BenchmarkDial(b *testing.B) {
	s := create(b, open(b, func(c *Config) { c.Network = sandbox.NetworkNone }), nil)
	for b.Loop() {
		if _, err := s.Dial(b.Context(), 1); !errors.Is(err, syscall.ECONNREFUSED) {
			b.Fatal(err)
		}
	}
}
