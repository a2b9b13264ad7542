package invoke

import (
	"strconv"
	"strings"

	"github.com/firn-run/firn"
)

// maxLoops is how often a function may be entered by one chain of requests:
// "approximately 16 times" in Lambda's documents; the next time is refused.
const maxLoops = 16

// Bounds of a lineage. What a caller sends beyond them is not believed, and a
// chain that has passed so many functions counts those that it knows: a loop
// longer than that is still found by its first members.
const (
	maxLineage = 1024 // bytes, as sent
	maxHops    = 32
	maxHop     = 255 // count
)

// hop is a function that a chain of requests has passed: the hash of its ARN,
// and how often it was entered again.
type hop struct {
	hash  uint32
	loops int
}

// lineage is the field Lineage of a trace header, 1:HASH:COUNT|HASH:COUNT. SDKs
// send it along with what a function sends on, so that it comes back to a
// function that is part of a loop.
type lineage struct {
	hops []hop
	room [4]hop // of hops, nearly always
}

// parse reads the field. What is malformed counts as nothing: a chain without
// a past. A number before the hash, which AWS's have had since 2024, is passed
// over: what it counts is not known, and nearly all recorded ones are 1.
func (l *lineage) parse(field string) {
	l.hops = l.room[:0]
	if len(field) > maxLineage {
		return
	}
	for part := range strings.SplitSeq(field, "|") {
		if strings.Count(part, ":") == 2 {
			_, part, _ = strings.Cut(part, ":")
		}
		hash, count, ok := strings.Cut(part, ":")
		if !ok || len(hash) != 8 || len(l.hops) == maxHops {
			continue
		}
		h, err := strconv.ParseUint(hash, 16, 32)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(count, 10, 16)
		if err != nil {
			continue
		}
		l.hops = append(l.hops, hop{uint32(h), min(int(n), maxHop)})
	}
}

// enter adds a function to the chain and returns how often it was entered,
// this time included.
func (l *lineage) enter(function string) (entered int) {
	hash := hashOf(function)
	for i := range l.hops {
		if h := &l.hops[i]; h.hash == hash {
			h.loops = min(h.loops+1, maxHop)
			return h.loops + 1
		}
	}
	if len(l.hops) < maxHops {
		l.hops = append(l.hops, hop{hash: hash})
	}
	return 1
}

// append renders the field.
func (l *lineage) append(b []byte) []byte {
	b = append(b, "Lineage=1:"...)
	for i, h := range l.hops {
		if i > 0 {
			b = append(b, '|')
		}
		const digits = "0123456789abcdef"
		for shift := 28; shift >= 0; shift -= 4 {
			b = append(b, digits[h.hash>>shift&15])
		}
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(h.loops), 10)
	}
	return b
}

// replace puts the field into a header that is passed on otherwise unchanged.
func (l *lineage) replace(header string) string {
	b := make([]byte, 0, len(header)+32)
	for part := range strings.SplitSeq(header, ";") {
		if strings.HasPrefix(strings.TrimSpace(part), "Lineage=") {
			continue
		}
		if len(b) > 0 {
			b = append(b, ';')
		}
		b = append(b, part...)
	}
	if len(b) > 0 {
		b = append(b, ';')
	}
	return string(l.append(b))
}

// hashOf is FNV-1a: the same in every process and on every node.
func hashOf(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// recursive refuses an invocation that is part of a loop, unless its function
// is meant to be.
func (i *Invoker) recursive(v *firn.FunctionVersion, arn string, entered int) error {
	if entered <= maxLoops || i.cfg.RecursionAllowed != nil && i.cfg.RecursionAllowed(v) {
		return nil
	}
	if i.cfg.Looped != nil {
		i.cfg.Looped(v, arn)
	}
	return firn.Faultf(firn.RecursiveInvocation, "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources and stopped your function's invocation.")
}
