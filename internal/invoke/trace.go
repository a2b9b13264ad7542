package invoke

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"
)

// The lengths of an X-Ray root identity, 1-TTTTTTTT-RRRRRRRRRRRRRRRRRRRRRRRR:
// the second of its making and 96 random bits, both in hexadecimal.
const (
	rootLength = 35
	rootSecond = 10 // where the second ends
)

// traceID is the X-Amzn-Trace-Id that the function sees (section 13 of the
// execution environment's specification). A caller's header passes through
// unchanged, unless tracing is active: then its Parent becomes a segment of
// ours, and it is sampled only if it says so. Without a usable header there
// is a trace all the same, which is not sampled.
func traceID(header string, active bool, now time.Time) string {
	if header != "" && !active {
		return header
	}
	root, sampled, lineage := "", "0", ""
	for part := range strings.SplitSeq(header, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "Root" && isRoot(value):
			root = value
		case key == "Sampled" && value == "1":
			sampled = value
		case key == "Lineage":
			lineage = ";Lineage=" + value
		}
	}
	if root == "" {
		sampled = "0"
	}
	var random [20]byte
	rand.Read(random[:]) // never fails: it ends the program instead
	b := make([]byte, 0, 96)
	b = append(b, "Root="...)
	if root != "" {
		b = append(b, root...)
	} else {
		second := uint32(now.Unix())
		b = append(b, "1-"...)
		b = hex.AppendEncode(b, []byte{byte(second >> 24), byte(second >> 16), byte(second >> 8), byte(second)})
		b = append(b, '-')
		b = hex.AppendEncode(b, random[:12])
	}
	b = append(b, ";Parent="...)
	b = hex.AppendEncode(b, random[12:])
	b = append(b, ";Sampled="...)
	b = append(b, sampled...)
	return string(append(b, lineage...))
}

// isRoot reports whether s has the form of a root identity.
func isRoot(s string) bool {
	if len(s) != rootLength || s[:2] != "1-" || s[rootSecond] != '-' {
		return false
	}
	for i, c := range []byte(s) {
		hexadecimal := '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
		if i != 1 && i != rootSecond && !hexadecimal {
			return false
		}
	}
	return true
}
