//go:build linux

package egress_test

import (
	"net/netip"
	"testing"

	"github.com/firn-run/firn/internal/sandbox/linux/egress"
)

func TestPolicy(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	internet := egress.Policy{}
	operator := egress.Policy{
		Allow: prefixes("10.1.0.0/16", "127.0.0.1/32", "fd00:1::/32"),
		Deny:  prefixes("10.1.2.0/24", "1.1.1.1/32", "2606:4700::/32"),
	}
	for _, c := range []struct {
		policy  egress.Policy
		address string
		own     bool
		ok      bool
	}{
		{internet, "1.1.1.1", false, true},
		{internet, "8.8.8.8", false, true},
		{internet, "8.8.8.8", true, false},
		{internet, "99.255.255.255", false, true},
		{internet, "100.63.255.255", false, true},
		{internet, "100.64.0.0", false, false},
		{internet, "100.127.255.255", false, false},
		{internet, "100.128.0.0", false, true},
		{internet, "0.0.0.0", false, false},
		{internet, "0.1.2.3", false, false},
		{internet, "9.255.255.255", false, true},
		{internet, "10.0.0.0", false, false},
		{internet, "10.255.255.255", false, false},
		{internet, "11.0.0.0", false, true},
		{internet, "127.0.0.1", false, false},
		{internet, "127.255.255.254", false, false},
		{internet, "169.253.255.255", false, true},
		{internet, "169.254.169.254", false, false},
		{internet, "169.254.170.2", false, false},
		{internet, "169.254.76.2", false, false},
		{internet, "172.15.255.255", false, true},
		{internet, "172.16.0.0", false, false},
		{internet, "172.31.255.255", false, false},
		{internet, "172.32.0.0", false, true},
		{internet, "192.0.0.9", false, false},
		{internet, "192.0.2.1", false, false},
		{internet, "192.31.196.1", false, true},
		{internet, "192.88.99.1", false, false},
		{internet, "192.167.255.255", false, true},
		{internet, "192.168.0.1", false, false},
		{internet, "198.17.255.255", false, true},
		{internet, "198.18.0.0", false, false},
		{internet, "198.19.255.255", false, false},
		{internet, "198.51.100.7", false, false},
		{internet, "203.0.113.7", false, false},
		{internet, "223.255.255.255", false, true},
		{internet, "224.0.0.1", false, false},
		{internet, "239.255.255.255", false, false},
		{internet, "240.0.0.1", false, false},
		{internet, "255.255.255.255", false, false},

		{internet, "2606:4700:4700::1111", false, true},
		{internet, "2606:4700:4700::1111", true, false},
		{internet, "2606:4700:4700::1111%eth0", false, false},
		{internet, "::", false, false},
		{internet, "::1", false, false},
		{internet, "::ffff:1.1.1.1", false, false},
		{internet, "::ffff:127.0.0.1", false, false},
		{internet, "::1.1.1.1", false, false},
		{internet, "64:ff9b::a9fe:a9fe", false, false},
		{internet, "64:ff9b:1::1", false, false},
		{internet, "100::1", false, false},
		{internet, "2001::1", false, false},
		{internet, "2001:1ff:ffff::", false, false},
		{internet, "2001:200::1", false, true},
		{internet, "2001:db8::1", false, false},
		{internet, "2002:7f00:1::", false, false},
		{internet, "2003::1", false, true},
		{internet, "3fff::1", false, false},
		{internet, "4000::1", false, false},
		{internet, "5f00::1", false, false},
		{internet, "fd00:ec2::254", false, false},
		{internet, "fe80::1", false, false},
		{internet, "fec0::1", false, false},
		{internet, "ff02::1", false, false},

		{operator, "10.1.1.1", false, true},
		{operator, "10.1.1.1", true, true},
		{operator, "10.1.2.1", false, false},
		{operator, "10.2.0.1", false, false},
		{operator, "127.0.0.1", true, true},
		{operator, "127.0.0.2", true, false},
		{operator, "::ffff:127.0.0.1", false, false},
		{operator, "1.1.1.1", false, false},
		{operator, "8.8.8.8", false, true},
		{operator, "fd00:1::5", false, true},
		{operator, "fd00:2::5", false, false},
		{operator, "2606:4700::1", false, false},
	} {
		v := c.policy.Check(netip.MustParseAddr(c.address), c.own)
		if v.OK != c.ok {
			t.Errorf("%s (own %t): %+v, want %t", c.address, c.own, v, c.ok)
		}
		if v.OK != (v.Reason == "") {
			t.Errorf("%s: verdict %+v: a reason belongs to each refusal and to nothing else", c.address, v)
		}
	}
	if v := internet.Check(netip.Addr{}, false); v.OK {
		t.Error("the invalid address was let through")
	}
}

// What the default policy lets through is, by the standard library's own and
// independent reckoning, a public unicast address, in one spelling.
func FuzzPolicy(f *testing.F) {
	for _, a := range []string{"1.1.1.1", "::ffff:10.0.0.1", "169.254.169.254", "fd00:ec2::254", "2002:7f00:1::", "64:ff9b::1"} {
		f.Add(netip.MustParseAddr(a).AsSlice(), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, own bool) {
		a, _ := netip.AddrFromSlice(b)
		var p egress.Policy
		if !p.Check(a, own).OK {
			return
		}
		if own || !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() ||
			a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || a.Zone() != "" {
			t.Errorf("%v (own %t) was let through", a, own)
		}
		p.Deny = []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		p.Allow = p.Deny
		if p.Check(a, own).OK {
			t.Errorf("%v was let through though denied", a)
		}
	})
}
