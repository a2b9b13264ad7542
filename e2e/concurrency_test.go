package e2e

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// crowd is how many callers TestCrowd has.
const crowd = 200

// TestCrowd has many callers at once. None shares an environment with another.
func TestCrowd(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.create("f", function{})
	var work sync.WaitGroup
	var failed atomic.Int64
	for range crowd {
		work.Go(func() {
			if a, err := n.tryInvoke(t.Context(), "f", order{Do: "sleep", Ms: 6000}); err != nil || a.failure != "" {
				failed.Add(1)
				t.Logf("%v %s", err, a.payload)
			}
		})
	}
	work.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d invocations failed", failed.Load(), crowd)
	}
	eventually(t, "every invocation is reported", func() (bool, any) {
		got := lines(n.out.String(), "✓ REPORT ")
		return got == crowd, got
	})
	most, environments := overlaps(t, n.out.String())
	t.Logf("at most %d at once, in %d environments", most, environments)
	// On a slow machine the first may be done before the last begin.
	if most < crowd/2 || environments < most {
		t.Errorf("at most %d at once, in %d environments", most, environments)
	}
	n.stop()
}

// overlaps reads the live view: how many invocations ran at once, and in how
// many environments; two at once in one are an error.
func overlaps(t *testing.T, log string) (most, environments int) {
	t.Helper()
	event := regexp.MustCompile(`^\S+\s+\S+\s+([0-9a-f]{8}) . (START|REPORT) `)
	busy := map[string]bool{}
	now := 0
	for line := range strings.Lines(log) {
		m := event.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		begins := m[2] == "START"
		if busy[m[1]] == begins {
			t.Errorf("environment %s: %s", m[1], line)
		}
		busy[m[1]] = begins
		if begins {
			now++
			most = max(most, now)
		} else {
			now--
		}
	}
	return most, len(busy)
}

// TestThrottle runs into the account's limit.
func TestThrottle(t *testing.T) {
	t.Parallel()
	n := start(t, options{sandbox: "process", args: []string{"--concurrency", "5"}})
	n.create("f", function{})
	var work sync.WaitGroup
	for range 5 {
		work.Go(func() {
			if a, err := n.tryInvoke(t.Context(), "f", order{Do: "sleep", Ms: 4000, Print: "occupied"}); err != nil || a.failure != "" {
				t.Errorf("%v %s", err, a.payload)
			}
		})
	}
	eventually(t, "five run", func() (bool, any) {
		got := lines(n.out.String(), "occupied")
		return got == 5, got
	})
	_, err := n.tryInvoke(t.Context(), "f", order{})
	var throttled *types.TooManyRequestsException
	switch {
	case !errors.As(err, &throttled):
		t.Errorf("the sixth: %v", err)
	case throttled.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded || throttled.RetryAfterSeconds != nil || aws.ToString(throttled.Message) != "Rate Exceeded.":
		t.Errorf("the sixth: reason %q, retry after %q, message %q", throttled.Reason, aws.ToString(throttled.RetryAfterSeconds), aws.ToString(throttled.Message))
	}
	work.Wait()
	n.succeed("f", order{})
	n.stop()
}

// TestUpdateUnderLoad changes a function's configuration and code while it is
// called. No call fails, and in the end the new one answers.
func TestUpdateUnderLoad(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.create("f", function{})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		work.Go(func() {
			for ctx.Err() == nil {
				a, err := n.tryInvoke(t.Context(), "f", order{Do: "sleep", Ms: 20})
				if err != nil || a.failure != "" {
					t.Errorf("an invocation during an update: %v %s", err, a.payload)
					return
				}
				done.Add(1)
			}
		})
	}
	for round := range 8 {
		before := done.Load()
		eventually(t, "invocations go on", func() (bool, any) { return done.Load() >= before+8, done.Load() })
		var err error
		if round%2 == 0 {
			_, err = n.client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
				FunctionName: aws.String("f"), MemorySize: aws.Int32(int32(256 + round)),
			})
		} else {
			_, err = n.client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{
				FunctionName: aws.String("f"), ZipFile: archive(t, map[string]file{"bootstrap": {from: program("actor")}, "round": {text: strings.Repeat("x", round)}}),
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		quick := func(o *lambda.FunctionUpdatedV2WaiterOptions) {
			o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
		}
		if err := lambda.NewFunctionUpdatedV2Waiter(n.client, quick).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}, patience); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
	var got string
	n.succeed("f", order{Do: "read", Arg: "/var/task/round"}).into(t, &got)
	if got != strings.Repeat("x", 7) {
		t.Errorf("the last code does not answer: %q", got)
	}
	// The environments of all versions but the last are gone.
	eventually(t, "old environments end", func() (bool, any) {
		got := n.running("/var/task/bootstrap")
		return got <= 4, got
	})
	n.stop()
}

// TestReap ends environments that nobody uses.
func TestReap(t *testing.T) {
	t.Parallel()
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox, args: []string{"--network", "none", "--idle-timeout", "1s", "--pool", "-1"}})
		n.create("f", function{layers: []string{n.layer("extension", "watcher")}})
		resting := len(below(t, n.cmd.Process.Pid))
		var work sync.WaitGroup
		for range 5 {
			work.Go(func() {
				if _, err := n.tryInvoke(t.Context(), "f", order{Do: "sleep", Ms: 500, Print: "at work"}); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if lines(n.out.String(), "at work") != 5 {
			t.Error("not all of them ran")
		}
		eventually(t, "all processes of idle environments end", func() (bool, any) {
			left := below(t, n.cmd.Process.Pid)
			return len(left) <= resting, left
		})
		if got := lines(n.out.String(), "watcher received SHUTDOWN spindown"); got == 0 {
			t.Error("the extensions of reaped environments were not told")
		}
		n.succeed("f", order{})
		n.stop()
	})
}
