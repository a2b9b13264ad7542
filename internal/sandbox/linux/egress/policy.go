//go:build linux

package egress

import (
	"net/netip"
)

// Policy says which addresses a sandbox may reach. It looks at nothing but the
// address that is about to be dialled: names are resolved before, and a name
// that resolves to a refused address gains nothing by it.
//
// The order is: an address in Deny is refused; an address in Allow is let
// through, whatever it is; otherwise only public unicast addresses that are not
// the host's own are let through. The zero value is the `internet` policy.
type Policy struct {
	// Allow holds exceptions for operators: a database in a private range,
	// a proxy on the host itself. It opens exactly what it names.
	Allow []netip.Prefix
	// Deny holds addresses that are refused though they are public: the
	// host's address as the outside world sees it behind a one-to-one NAT
	// belongs here, since no interface of the host shows it.
	Deny []netip.Prefix
}

// Verdict is the answer of a Policy.
type Verdict struct {
	OK bool
	// Reason says in a few words why the address was refused, for logs.
	Reason string
}

// Check judges an address. own says that it is one of the host's own addresses.
// An IPv4 address written as IPv6 (::ffff:a.b.c.d) and an address with a zone
// are refused: no packet from a sandbox carries one, and taking them apart here
// while someone else does not is how such checks are evaded.
func (p *Policy) Check(a netip.Addr, own bool) Verdict {
	switch {
	case !a.IsValid():
		return Verdict{Reason: "not an address"}
	case a.Is4In6():
		return Verdict{Reason: "IPv4-mapped IPv6 address"}
	case a.Zone() != "":
		return Verdict{Reason: "address with a zone"}
	case contains(p.Deny, a):
		return Verdict{Reason: "denied by configuration"}
	case contains(p.Allow, a):
		return Verdict{OK: true}
	case own:
		return Verdict{Reason: "address of the host"}
	}
	if a.Is4() {
		return checkSpecial(a, special4())
	}
	if !globalUnicast6().Contains(a) {
		return Verdict{Reason: "not a global unicast address"}
	}
	return checkSpecial(a, special6())
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// reserved is a block that is not the public internet.
type reserved struct {
	block netip.Prefix
	what  string
}

func checkSpecial(a netip.Addr, table []reserved) Verdict {
	for _, r := range table {
		if r.block.Contains(a) {
			return Verdict{Reason: r.what}
		}
	}
	return Verdict{OK: true}
}

func block4(a, b, c byte, bits int, what string) reserved {
	return reserved{netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, 0}), bits), what}
}

// special4 is IANA's IPv4 special-purpose address registry (RFC 6890) without
// the anycast blocks of AS112, which are ordinary public servers, plus the
// multicast and reserved classes. 169.254.0.0/16 holds the metadata services of
// every cloud (169.254.169.254) and of ECS (169.254.170.2).
func special4() []reserved {
	return []reserved{
		block4(0, 0, 0, 8, "this network"),
		block4(10, 0, 0, 8, "private network"),
		block4(100, 64, 0, 10, "carrier's private network"),
		block4(127, 0, 0, 8, "loopback"),
		block4(169, 254, 0, 16, "link-local, cloud metadata"),
		block4(172, 16, 0, 12, "private network"),
		block4(192, 0, 0, 24, "protocol assignments"),
		block4(192, 0, 2, 24, "documentation"),
		block4(192, 88, 99, 24, "6to4 relay"),
		block4(192, 168, 0, 16, "private network"),
		block4(198, 18, 0, 15, "benchmarking"),
		block4(198, 51, 100, 24, "documentation"),
		block4(203, 0, 113, 24, "documentation"),
		block4(224, 0, 0, 4, "multicast"),
		block4(240, 0, 0, 4, "reserved or broadcast"),
	}
}

// globalUnicast6 is the only IPv6 block that is assigned for public use
// (RFC 4291); loopback, unique local (with fd00:ec2::254, the metadata service
// of EC2), link-local, multicast and NAT64 (64:ff9b::/96) lie outside.
func globalUnicast6() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3)
}

func block6(first [4]byte, bits int, what string) reserved {
	return reserved{netip.PrefixFrom(netip.AddrFrom16([16]byte{first[0], first[1], first[2], first[3]}), bits), what}
}

// special6 is what IANA's IPv6 special-purpose registry holds inside of
// globalUnicast6. Teredo and 6to4 carry IPv4 addresses within them.
func special6() []reserved {
	return []reserved{
		block6([4]byte{0x20, 0x01, 0x00, 0x00}, 23, "protocol assignments, Teredo"),
		block6([4]byte{0x20, 0x01, 0x0d, 0xb8}, 32, "documentation"),
		block6([4]byte{0x20, 0x02, 0x00, 0x00}, 16, "6to4"),
		block6([4]byte{0x3f, 0xff, 0x00, 0x00}, 20, "documentation"),
	}
}
