package invoke

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
)

// The lengths of an X-Ray root identity, 1-TTTTTTTT-RRRRRRRRRRRRRRRRRRRRRRRR:
// the second of its making and 96 random bits, both in hexadecimal; and of a
// segment's identity.
const (
	rootLength   = 35
	rootSecond   = 10 // where the second ends
	parentLength = 16
)

// traceHeader is what a caller's X-Amzn-Trace-Id says, as far as it is usable.
type traceHeader struct {
	root    string // "" when there is none of the right form
	parent  string // the caller's segment, or ""
	sampled string // "0", "1", or "" when the caller has not decided
	lineage string
}

// parseTrace reads a header's fields. Unknown fields are the business of
// whoever passes the header on unchanged.
func parseTrace(header string) traceHeader {
	var h traceHeader
	for part := range strings.SplitSeq(header, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "Root" && isRoot(value):
			h.root = value
		case key == "Parent" && len(value) == parentLength && isHex(value):
			h.parent = value
		case key == "Sampled" && (value == "0" || value == "1"):
			h.sampled = value
		case key == "Lineage" && value != "":
			h.lineage = value
		}
	}
	if h.root == "" { // without a trace there is nothing that it could belong to
		h.parent, h.sampled = "", ""
	}
	return h
}

// trace decides the X-Amzn-Trace-Id that the function sees (section 13 of the
// execution environment's specification).
//
// With PassThrough a caller's header goes through unchanged but for the
// lineage, and without one there is a trace all the same, which is not
// sampled. With Active a segment
// of ours becomes the Parent; whether it is sampled is for the header to say,
// and for the default rule when the header does not.
//
// entered is how often the function was entered by this chain of requests.
func (i *Invoker) trace(header, function string, active bool, now time.Time) (given string, caller traceHeader, entered int) {
	h := parseTrace(header)
	var chain lineage
	chain.parse(h.lineage)
	entered = chain.enter(function)
	// A front that only began the trace leaves the rest to be said here.
	begun := h.root != "" && h.parent == "" && h.sampled == ""
	if header != "" && !active && !begun {
		return chain.replace(header), traceHeader{}, entered
	}
	sampled := h.sampled
	switch {
	case !active:
		sampled = "0"
	case sampled == "":
		sampled = "0"
		if i.sampler.sample(function, now) {
			sampled = "1"
		}
	}
	var random [20]byte
	i.random(random[:])
	b := make([]byte, 0, 128)
	if h.root != "" {
		b = append(append(b, "Root="...), h.root...)
	} else {
		b = appendRoot(b, now, random[:12])
	}
	b = append(b, ";Parent="...)
	b = hex.AppendEncode(b, random[12:])
	b = append(b, ";Sampled="...)
	b = append(b, sampled...)
	b = append(b, ';')
	return string(chain.append(b)), h, entered
}

// UsableTrace is the header if it names a trace, and "" otherwise: other
// services refuse what a caller of Invoke may have sent.
func UsableTrace(header string) string {
	if parseTrace(header).root == "" {
		return ""
	}
	return header
}

// NewTrace begins a trace: the header that a front gives to a request without
// one. What it leaves open is decided when the function is invoked.
func NewTrace(now time.Time) string {
	var random [12]byte
	rand.Read(random[:]) // never fails: it ends the program instead
	return string(appendRoot(make([]byte, 0, len("Root=")+rootLength), now, random[:]))
}

// appendRoot renders the field Root of a trace that begins now.
func appendRoot(b []byte, now time.Time, random []byte) []byte {
	second := uint32(now.Unix())
	b = append(b, "Root=1-"...)
	b = hex.AppendEncode(b, []byte{byte(second >> 24), byte(second >> 16), byte(second >> 8), byte(second)})
	b = append(b, '-')
	return hex.AppendEncode(b, random)
}

// isRoot reports whether s has the form of a root identity.
func isRoot(s string) bool {
	return len(s) == rootLength && s[:2] == "1-" && s[rootSecond] == '-' &&
		isHex(s[2:rootSecond]) && isHex(s[rootSecond+1:])
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
			return false
		}
	}
	return true
}
