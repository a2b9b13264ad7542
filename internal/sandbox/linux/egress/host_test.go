//go:build linux

package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHostAddressesAreReadAnew(t *testing.T) {
	now := time.Unix(1000, 0)
	list, reads := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")}, 0
	var failure error
	h := NewHostAddresses(func() ([]netip.Addr, error) { reads++; return list, failure })
	h.now = func() time.Time { return now }
	ask := func(a string, want bool) {
		t.Helper()
		if got, err := h.Contains(netip.MustParseAddr(a)); got != want || err != nil {
			t.Errorf("%s: %t, %v, want %t", a, got, err, want)
		}
	}
	ask("192.0.2.1", true)
	ask("::ffff:192.0.2.1", true)
	ask("fe80::1", true)
	ask("192.0.2.2", false)
	if reads != 1 {
		t.Errorf("%d reads within one moment", reads)
	}
	list = append(list, netip.MustParseAddr("192.0.2.2"))
	now = now.Add(hostAddressesAge)
	ask("192.0.2.2", true)
	failure = errors.New("no")
	now = now.Add(hostAddressesAge)
	if _, err := h.Contains(list[0]); !errors.Is(err, failure) {
		t.Errorf("got %v, want the reading's error", err)
	}
	failure = nil
	ask("192.0.2.2", true)
}

func TestInterfaceAddressesHasLoopback(t *testing.T) {
	own, err := NewHostAddresses(nil).Contains(netip.MustParseAddr("127.0.0.1"))
	if err != nil || !own {
		t.Errorf("127.0.0.1 is the host's own: %t, %v", own, err)
	}
}

func TestParseResolvers(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"nameserver 10.0.0.2\n", "10.0.0.2:53"},
		{"# nameserver 1.1.1.1\nsearch a.b\nnameserver\t127.0.0.53 \noptions edns0\nnameserver fe80::1%eth0", "127.0.0.53:53 [fe80::1%eth0]:53"},
		{"nameserver\nnameserver nonsense\nnameserver ::ffff:9.9.9.9\n", "9.9.9.9:53"},
		{"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", "1.1.1.1:53 1.1.1.2:53 1.1.1.3:53"},
	} {
		list, err := ParseResolvers(strings.NewReader(c.in))
		var got []string
		for _, r := range list {
			got = append(got, r.String())
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || err != nil {
			t.Errorf("%q: %v %s", c.in, err, diff)
		}
	}
}

func FuzzParseResolvers(f *testing.F) {
	f.Add("nameserver 10.0.0.2\nnameserver ::1\n")
	f.Fuzz(func(t *testing.T, in string) {
		list, _ := ParseResolvers(strings.NewReader(in))
		if len(list) > maxResolvers {
			t.Errorf("%d resolvers", len(list))
		}
		for _, r := range list {
			if !r.IsValid() || r.Port() != 53 || r.Addr().Is4In6() {
				t.Errorf("resolver %v", r)
			}
		}
	})
}

func FuzzWanted(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 169, 254, 76, 2, 1, 1, 1, 1})
	f.Add([]byte{0x60, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if wanted(b) && (len(b) < 20 || b[0]>>4 != 4 || b[12] != 169 || b[15] != 2 || b[16] >= 224) {
			t.Errorf("wanted % x", b)
		}
	})
}

// query is a question for a.b, type A.
const query = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x01b\x00\x00\x01\x00\x01"

func TestServerFailure(t *testing.T) {
	withEDNS := []byte(query + "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00")
	withEDNS[11] = 1
	want := []byte(query)
	want[2], want[3] = 0x81, 0x82
	for name, q := range map[string][]byte{"plain": []byte(query), "with EDNS": withEDNS} {
		if diff := cmp.Diff(want, serverFailure(q)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzDNS(f *testing.F) {
	f.Add([]byte(query))
	f.Add([]byte(query[:14]))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, q []byte) {
		if !isQuery(q) {
			return
		}
		failure := serverFailure(q)
		if len(failure) > len(q) || !isAnswer(q, failure) || isQuery(failure) {
			t.Errorf("query % x, failure % x", q, failure)
		}
		long := append(append([]byte(nil), failure...), make([]byte, maxDNSAnswer)...)
		if short := cut(long); len(short) > maxDNSAnswer || !isAnswer(q, short) || short[2]&dnsFlagsTC == 0 {
			t.Errorf("query % x, cut % x", q, short)
		}
	})
}

func TestBudget(t *testing.T) {
	b := NewBudget(2)
	for i, want := range []bool{true, true, false, false} {
		if b.take() != want {
			t.Errorf("take %d of a budget of 2 is not %v", i+1, want)
		}
	}
	b.giveBack()
	if !b.take() || b.take() {
		t.Error("one given back was not one")
	}
	var none *Budget
	if !none.take() {
		t.Error("no budget has an end")
	}
	none.giveBack()
}
