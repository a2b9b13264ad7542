package invoke

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// seldom is an Invoker whose 5 % never come.
func seldom() *Invoker {
	i := New(Config{})
	i.sampler.chance = func() uint64 { return math.MaxUint64 }
	return i
}

func TestTraceHeader(t *testing.T) {
	const root = "1-5759e988-bd862e3fe1be46a994272793"
	now := time.Unix(0x6721a3b4, 0)
	for _, test := range []struct {
		name, header string
		active       bool
		want         string // a regular expression
		parent       string // of the caller, as told to the trace
	}{
		{"none", "", false, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0`, ""},
		{"none, active: the first of the second", "", true, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=1`, ""},
		{"begun by a front", "Root=" + root, false, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0", ""},
		{"passed through", "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1", false, "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1", ""},
		{"odd, passed through", "Self=1;Custom=x", false, "Self=1;Custom=x", ""},
		{"sampled", "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=1", "53995c3f42cd8ad8"},
		{"not sampled", "Root=" + root + ";Sampled=0", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0", ""},
		{"undecided", "Root=" + root + ";Parent=53995c3f42cd8ad8", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=1", "53995c3f42cd8ad8"},
		{"asking", "Root=" + root + ";Sampled=?", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=1", ""},
		{"lineage and spaces", "Sampled=1; Root=" + root + "; Lineage=a87bd80c:1|68fd508a:5", true, "Root=" + root + `;Parent=[0-9a-f]{16};Sampled=1;Lineage=1:a87bd80c:1\|68fd508a:5\|e30c2799:0`, ""},
		{"broken root", "Root=1-zz;Parent=53995c3f42cd8ad8;Sampled=0", true, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=1`, ""},
		{"broken parent", "Root=" + root + ";Parent=53995c3f42cd8adz;Sampled=0", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, caller, _ := seldom().trace(test.header, "f", test.active, now)
			if !strings.Contains(test.want, "Lineage") {
				test.want += ";Lineage=1:e30c2799:0"
			}
			if !regexp.MustCompile(`^(?:` + test.want + `)$`).MatchString(got) {
				t.Errorf("%s, want %s", got, test.want)
			}
			if test.active && strings.Contains(got, "53995c3f42cd8ad8") {
				t.Error("the caller's parent was kept")
			}
			if caller.parent != test.parent {
				t.Errorf("the caller's parent is %q, want %q", caller.parent, test.parent)
			}
		})
	}
	i := seldom()
	a, _, _ := i.trace("", "f", false, now)
	if b, _, _ := i.trace("", "f", false, now); a == b {
		t.Error("two traces are the same")
	}
}

// The header's decision neither uses the reservoir up nor is overruled by it.
func TestSamplingDecidedByTheHeader(t *testing.T) {
	i, now := seldom(), time.Unix(100, 0)
	const root = "Root=1-5759e988-bd862e3fe1be46a994272793"
	for _, sampled := range []string{"0", "1", "0"} {
		if got, _, _ := i.trace(root+";Sampled="+sampled, "f", true, now); !strings.Contains(got, ";Sampled="+sampled+";") {
			t.Errorf("%s, want Sampled=%s", got, sampled)
		}
	}
	if got, _, _ := i.trace("", "f", true, now); !strings.Contains(got, ";Sampled=1;") {
		t.Errorf("%s: the reservoir was used up by requests that were decided", got)
	}
}

// The default rule: the first request of a second and 5 % of the rest, for
// every function of its own.
func TestSamplingRule(t *testing.T) {
	var s sampler
	draws := 0
	s.chance = func() uint64 { // 0 %, 1 %, 2 % ... 99 %, 0 % ...
		draws++
		return uint64(draws-1) % 100 * (math.MaxUint64 / 100)
	}
	at := time.Unix(1000, 0)
	for second := range 3 {
		for _, function := range []string{"f", "g"} {
			draws = 0
			sampled := 0
			for n := range 101 {
				// Within the same second, wherever in it.
				if s.sample(function, at.Add(time.Duration(second)*time.Second+time.Duration(n)*9*time.Millisecond)) {
					if sampled++; sampled == 1 && n != 0 {
						t.Errorf("%s: the first of the second is not sampled", function)
					}
				}
			}
			if sampled != 1+5 || draws != 100 {
				t.Errorf("%s in second %d: %d of 101 sampled with %d draws, want 6 with 100", function, second, sampled, draws)
			}
		}
	}
}

// Of requests that come at once, one is the first.
func TestSamplingReservoirUnderContention(t *testing.T) {
	s := sampler{chance: func() uint64 { return math.MaxUint64 }}
	var wg sync.WaitGroup
	sampled := make(chan bool, 64)
	for range cap(sampled) {
		wg.Go(func() { sampled <- s.sample("f", time.Unix(7, 0)) })
	}
	wg.Wait()
	close(sampled)
	n := 0
	for yes := range sampled {
		if yes {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d requests from a reservoir of 1", n)
	}
}

// Functions that rest are forgotten, those in use are not.
func TestSamplingForgets(t *testing.T) {
	s := sampler{chance: func() uint64 { return math.MaxUint64 }}
	for n := range sampledFunctions {
		s.sample(fmt.Sprint("old", n), time.Unix(0, 0))
	}
	s.sample("old0", time.Unix(100, 0))
	s.sample("new", time.Unix(100, 0))
	if n := s.size.Load(); n != 2 {
		t.Errorf("%d functions are remembered, want 2", n)
	}
	if s.sample("old0", time.Unix(100, 0)) {
		t.Error("a function in use was forgotten")
	}
}

func BenchmarkSample(b *testing.B) {
	i := New(Config{})
	now := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i.sampler.sample("f", now)
		}
	})
}
