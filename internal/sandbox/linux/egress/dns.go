//go:build linux

package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

var errNoResolver = errors.New("no resolver is configured")

// Sizes of DNS messages over UDP, in bytes. Queries are small; what an answer
// may have is what EDNS clients announce at most; a longer one is cut, with the
// bit set that makes the client ask again over TCP.
const (
	dnsHeaderSize   = 12
	maxDNSQuery     = 1232
	maxDNSAnswer    = 4096
	dnsFlagsResp    = 0x80 // QR, in the third byte
	dnsFlagsTC      = 0x02 // TC, in the third byte
	dnsRcodeMask    = 0x0f // RCODE, in the fourth byte
	dnsRcodeServer  = 2    // SERVFAIL
	dnsRAFlag       = 0x80 // RA, in the fourth byte
	dnsQuestionsOff = 4
)

// resolve answers one query from the sandbox on a goroutine of its own.
func (e *engine) resolve(from netip.AddrPort, query []byte) {
	if !isQuery(query) {
		return
	}
	s := e.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	if e.dns >= s.cfg.Limits.MaxDNS || !s.cfg.Budget.take() {
		s.stats.Limited++
		return
	}
	e.dns++
	s.stats.Queries++
	s.work.Go(func() {
		e.sendUDP(netip.AddrPortFrom(tun.Gateway(), dnsPort), from, e.ask(query))
		s.mu.Lock()
		e.dns--
		e.endLocked()
		s.mu.Unlock()
		s.cfg.Budget.giveBack()
	})
}

// ask puts the query to the resolvers in turn and returns the first answer, or
// SERVFAIL.
func (e *engine) ask(query []byte) []byte {
	for _, r := range e.s.cfg.Resolvers {
		answer, err := e.askOne(r, query)
		if err == nil {
			return answer
		}
		if e.s.ctx.Err() != nil {
			break
		}
		e.s.log.Debug("resolver does not answer", "resolver", r, "error", err)
	}
	return serverFailure(query)
}

// askOne asks one resolver over UDP from a socket of this query alone: its port
// is as random as the kernel makes it, and only the resolver can write to it.
func (e *engine) askOne(resolver netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(e.s.ctx, e.s.cfg.Limits.DNSTimeout)
	defer cancel()
	c, err := e.s.cfg.Dialer(ctx, "udp", resolver.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDNSAnswer+1)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if isAnswer(query, buf[:n]) {
			return cut(buf[:n]), nil
		}
	}
}

// isQuery tells whether b may be a DNS query. Its content is the resolver's
// business.
func isQuery(b []byte) bool {
	return len(b) >= dnsHeaderSize && len(b) <= maxDNSQuery && b[2]&dnsFlagsResp == 0
}

// isAnswer tells whether b answers query: same identifier, and a response.
func isAnswer(query, b []byte) bool {
	return len(b) >= dnsHeaderSize && b[0] == query[0] && b[1] == query[1] && b[2]&dnsFlagsResp != 0
}

// cut shortens an answer that does not fit to its question, marked as
// truncated.
func cut(b []byte) []byte {
	if len(b) <= maxDNSAnswer {
		return b
	}
	b = questionOnly(b)
	b[2] |= dnsFlagsTC
	return b
}

// serverFailure makes the SERVFAIL answer to a query.
func serverFailure(query []byte) []byte {
	b := questionOnly(query)
	b[2] |= dnsFlagsResp
	b[3] = b[3]&^dnsRcodeMask | dnsRcodeServer | dnsRAFlag
	return b
}

// questionOnly returns a copy of a message without anything behind its first
// question, which clients check in every answer.
func questionOnly(message []byte) []byte {
	end := questionEnd(message)
	b := bytes.Clone(message[:end])
	clear(b[dnsQuestionsOff:dnsHeaderSize])
	if end > dnsHeaderSize {
		binary.BigEndian.PutUint16(b[dnsQuestionsOff:], 1)
	}
	return b
}

// questionEnd returns where the first question of a message ends; the header's
// end when there is none that can be read. The message has a whole header.
func questionEnd(message []byte) int {
	if binary.BigEndian.Uint16(message[dnsQuestionsOff:]) == 0 {
		return dnsHeaderSize
	}
	at := dnsHeaderSize
	for at < len(message) {
		label := int(message[at])
		at++
		if label == 0 {
			if at+4 > len(message) { // type and class
				return dnsHeaderSize
			}
			return at + 4
		}
		if label > 63 { // a pointer or worse: no question of a client has it
			return dnsHeaderSize
		}
		at += label
	}
	return dnsHeaderSize
}
