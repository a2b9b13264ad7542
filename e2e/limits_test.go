package e2e

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

// What a function can use up, and that nobody else notices.

// needMemoryCgroup skips where nothing but sampling bounds memory.
func needMemoryCgroup(t testing.TB, n *node) {
	t.Helper()
	require.Feature(t, "cgroup", !strings.Contains(n.out.String(), "no control groups"), "firn found no control groups")
}

func TestLimits(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.create("bystander", function{})
	t.Run("memory", func(t *testing.T) { endsByMemory(t, n) })
	t.Run("slow leak", func(t *testing.T) { endsByLeak(t, n) })
	t.Run("tmp", func(t *testing.T) { fillsTmp(t, n) })
	t.Run("files", func(t *testing.T) { opensFiles(t, n) })
	t.Run("fork bomb", func(t *testing.T) { forksWithoutEnd(t, n) })
	n.stop()
}

// outOfMemory is what an invoker sees of it.
func outOfMemory(t *testing.T, a answer) {
	t.Helper()
	want := regexp.MustCompile(`^\{"errorType":"Runtime\.OutOfMemory","errorMessage":"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: signal: killed"\}$`)
	if a.failure != "Unhandled" || !want.MatchString(a.payload) {
		t.Errorf("%s %s", a.failure, a.payload)
	}
	if !strings.Contains(a.log, "Max Memory Used: 128 MB") || !strings.Contains(a.log, "Error Type: Runtime.OutOfMemory") {
		t.Errorf("the report does not tell of it:\n%s", a.log)
	}
}

func endsByMemory(t *testing.T, n *node) {
	needMemoryCgroup(t, n)
	n.create("memory", function{memory: 128})
	if a := n.succeed("memory", order{Do: "eat", N: 60}); !strings.Contains(a.log, "ate 60 MB") {
		t.Errorf("60 MB of 128 could not be used:\n%s", a.log)
	}
	for range 2 {
		outOfMemory(t, n.invoke("memory", order{Do: "oom", N: 400}))
		n.succeed("memory", order{Do: "info"})
	}
}

func endsByLeak(t *testing.T, n *node) {
	needMemoryCgroup(t, n)
	n.create("leak", function{memory: 128})
	outOfMemory(t, n.invoke("leak", order{Do: "leak", N: 1200}))
	n.succeed("leak", order{Do: "info"})
}

func fillsTmp(t *testing.T, n *node) {
	n.create("tmp", function{memory: 128})
	var got struct {
		Written int
		Refused string
	}
	n.succeed("tmp", order{Do: "fill", Arg: "/tmp/some", N: 300}).into(t, &got)
	if got.Written != 300 || got.Refused != "" {
		t.Errorf("300 MB into /tmp of a function of 128 MB: %+v", got)
	}
	a := n.succeed("tmp", order{Do: "fill", Arg: "/tmp/more", N: 300})
	a.into(t, &got)
	if got.Written < 200 || got.Written > 212 || !strings.Contains(got.Refused, "no space left on device") {
		t.Errorf("beyond 512 MB of /tmp: %+v", got)
	}
	used := regexp.MustCompile(`Max Memory Used: (\d{1,2}) MB`)
	if !used.MatchString(a.log) {
		t.Errorf("/tmp counts as memory of the function:\n%s", a.log)
	}
	n.create("large-tmp", function{memory: 128, storage: 1024})
	n.succeed("large-tmp", order{Do: "fill", Arg: "/tmp/some", N: 700}).into(t, &got)
	if got.Written != 700 {
		t.Errorf("700 MB into a /tmp of 1024: %+v", got)
	}
	n.succeed("tmp", order{Do: "info"})
}

func opensFiles(t *testing.T, n *node) {
	n.create("files", function{memory: 1769})
	var got struct {
		Opened  int
		Refused string
	}
	n.succeed("files", order{Do: "fds"}).into(t, &got)
	if got.Opened > 1024 || got.Opened < 1000 || !strings.Contains(got.Refused, "too many open files") {
		t.Errorf("%+v", got)
	}
	n.succeed("files", order{Do: "info"})
}

// forksWithoutEnd lets one function fork while another is measured: it must
// not notice, and the first must be usable afterwards.
func forksWithoutEnd(t *testing.T, n *node) {
	n.create("bomb", function{memory: 256, timeout: 5})
	before := latencies(t, n, "bystander", 20)
	bombed := make(chan answer, 1)
	go func() {
		a, err := n.tryInvoke(context.Background(), "bomb", order{Do: "bomb"})
		if err != nil {
			t.Error(err)
		}
		bombed <- a
	}()
	during := latencies(t, n, "bystander", 40)
	a := <-bombed
	if a.failure == "" && !strings.Contains(a.payload, "resource temporarily unavailable") || a.failure != "" && !strings.Contains(a.payload, "Sandbox.Timedout") && !strings.Contains(a.payload, "Runtime.") {
		t.Errorf("the bomb: %s %s", a.failure, a.payload)
	}
	t.Logf("latency of another function: %v before, %v during a fork bomb (medians)", median(before), median(during))
	if m := median(during); m > 2*time.Second {
		t.Errorf("another function takes %v during a fork bomb, %v before", m, median(before))
	}
	// The bomb's processes live on in the environment; the next invocation
	// may fail from them, and then the environment is made new.
	var last answer
	for range 3 {
		if last = n.invoke("bomb", order{Do: "info"}); last.failure == "" {
			return
		}
	}
	t.Errorf("not usable after a fork bomb: %s\n%s", last.payload, last.log)
}

// latencies measures n invocations that must succeed.
func latencies(t *testing.T, n *node, function string, count int) []time.Duration {
	t.Helper()
	var out []time.Duration
	for range count {
		out = append(out, n.succeed(function, order{}).took)
	}
	return out
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}
