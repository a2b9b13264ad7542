package invoke

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

func render(l *lineage) string { return string(l.append(nil)) }

func TestLineage(t *testing.T) {
	long := make([]string, 40)
	for n := range long {
		long[n] = fmt.Sprintf("%08x:0", n)
	}
	for _, test := range []struct {
		name, field, want string
		entered           int
	}{
		{"none", "", "e30c2799:0", 1},
		{"itself", "e30c2799:0", "e30c2799:1", 2},
		{"itself among others", "a87bd80c:1|e30c2799:4|c512fbe3:2", "a87bd80c:1|e30c2799:5|c512fbe3:2", 6},
		{"with a counter of requests", "7:e30c2799:2", "e30c2799:3", 4},
		{"capitals", "E30C2799:1", "e30c2799:2", 3},
		{"as far as it counts", "e30c2799:255", "e30c2799:255", 256},
		{"beyond", "e30c2799:60000", "e30c2799:255", 256},
		{"malformed", "e30c2799|e30c2799:|:1|e30c279:1|e30c2799:-1|e30c279g:1|a:b:c:d|e30c2799:70000", "e30c2799:0", 1},
		{"too many", strings.Join(long, "|"), strings.Join(long[:maxHops], "|"), 1},
		{"too long", strings.Repeat("e30c2799:1|", 100), "e30c2799:0", 1},
	} {
		var l lineage
		l.parse(test.field)
		if entered := l.enter("f"); entered != test.entered || render(&l) != "Lineage=1:"+test.want {
			t.Errorf("%s: entered %d times, %s; want %d, %s", test.name, entered, render(&l), test.entered, test.want)
		}
	}
}

// A chain that has passed more functions than a lineage holds still finds the
// loop that it is part of.
func TestLongLoop(t *testing.T) {
	field, rounds := "", 0
	for ; rounds < 100; rounds++ {
		stop := false
		for n := range 2 * maxHops {
			var l lineage
			l.parse(strings.TrimPrefix(field, "Lineage="))
			stop = stop || l.enter(fmt.Sprint("f", n)) > maxLoops
			field = render(&l)
		}
		if stop {
			break
		}
	}
	if rounds != maxLoops {
		t.Errorf("stopped in round %d", rounds)
	}
	if len(field) > maxLineage {
		t.Errorf("%d bytes of lineage", len(field))
	}
}

func TestReplaceLineage(t *testing.T) {
	for header, want := range map[string]string{
		"Root=1;Sampled=0":             "Root=1;Sampled=0;Lineage=1:e30c2799:0",
		"Root=1; Lineage=x ;Sampled=0": "Root=1;Sampled=0;Lineage=1:e30c2799:0",
		"Lineage=1;Lineage=2":          "Lineage=1:e30c2799:0",
		"Self=2":                       "Self=2;Lineage=1:e30c2799:0",
	} {
		var l lineage
		l.parse("")
		l.enter("f")
		if got := l.replace(header); got != want {
			t.Errorf("%q becomes %q, want %q", header, got, want)
		}
	}
}

// A function that invokes itself with the header that it was given runs 16
// times; one that may loop, and a chain that begins anew, go on.
func TestRecursion(t *testing.T) {
	v := &firn.FunctionVersion{Name: "f", ARN: "arn:f"}
	var looped []string
	allowed := false
	header := ""
	i := New(Config{
		Resolver: one{v}, Fleet: fullFleet(t), Now: time.Now,
		RecursionAllowed: func(got *firn.FunctionVersion) bool { return allowed && got == v },
		Looped:           func(got *firn.FunctionVersion, arn string) { looped = append(looped, got.Name+" "+arn) },
		Received:         func(r Received) { header = r.TraceHeader },
	})
	call := func() firn.Kind {
		_, err := i.Invoke(context.Background(), &Request{Function: firn.FunctionRef{Name: "f"}, TraceHeader: header})
		return firn.KindOf(err)
	}
	for n := range maxLoops {
		if got := call(); got != firn.TooManyRequests { // admitted, as far as loops go
			t.Fatalf("invocation %d: %q", n+1, got)
		}
	}
	for range 2 {
		if got := call(); got != firn.RecursiveInvocation {
			t.Fatalf("invocation 17: %q", got)
		}
	}
	if len(looped) != 2 || looped[0] != "f arn:f" {
		t.Errorf("told %q", looped)
	}
	allowed = true
	for range 300 {
		if got := call(); got != firn.TooManyRequests {
			t.Fatalf("a function that may loop: %q", got)
		}
	}
	allowed, header = false, ""
	if got := call(); got != firn.TooManyRequests {
		t.Errorf("another chain: %q", got)
	}
}

func FuzzLineage(f *testing.F) {
	f.Add("a87bd80c:1|68fd508a:5|c512fbe3:2")
	f.Add("1:fe460cdd:0")
	f.Add("Root=1;Lineage=::|:;;Lineage=a87bd80c:99999")
	f.Fuzz(func(t *testing.T, field string) {
		var l, again lineage
		l.parse(field)
		before := 1
		for _, h := range l.hops {
			if h.hash == hashOf("f") {
				before = h.loops + 2
				break
			}
		}
		if got := l.enter("f"); got != min(before, maxHop+1) {
			t.Fatalf("entered %d times after %q", got, field)
		}
		text := render(&l)
		if len(text) > len("Lineage=1:")+maxHops*len("a87bd80c:255|") {
			t.Fatalf("%d bytes", len(text))
		}
		again.parse(strings.TrimPrefix(text, "Lineage="))
		if render(&again) != text {
			t.Fatalf("%q is read back as %q", text, render(&again))
		}
		if replaced := l.replace(field); strings.Count(replaced, "Lineage=") < 1 || parseTrace(replaced).lineage != strings.TrimPrefix(text, "Lineage=") {
			t.Fatalf("%q", replaced)
		}
	})
}
