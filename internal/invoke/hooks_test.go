package invoke

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/fleet"
)

// fullFleet has no room for any invocation.
func fullFleet(t *testing.T) *fleet.Fleet {
	f := fleet.New(fleet.Config{AccountConcurrency: 0, IdleTimeout: time.Hour, Now: time.Now})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		f.Close(ctx)
	})
	return f
}

// A refused request is told of with what the caller used, between the begin
// and the end of it; one that is not admitted is not told of at all.
func TestHooks(t *testing.T) {
	v := &firn.FunctionVersion{Name: "f", ARN: "arn:f", TracingActive: true}
	now := time.Unix(0x6721a3b4, 0)
	var told []string
	var received Received
	i := New(Config{
		Resolver: one{v}, Fleet: fullFleet(t), Now: func() time.Time { return now },
		Random: func(b []byte) { clear(b) },
		Throttled: func(got *firn.FunctionVersion, arn string) {
			told = append(told, "throttled "+got.Name+" "+arn)
		},
		Received: func(r Received) { told, received = append(told, "received "+r.RequestID), r },
		Finished: func(id string) { told = append(told, "finished "+id) },
	})
	req := &Request{Function: firn.FunctionRef{Name: "f"}, RequestID: "r1",
		TraceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}
	if _, err := i.Invoke(context.Background(), req); firn.KindOf(err) != firn.TooManyRequests {
		t.Errorf("%v, want a throttle", err)
	}
	if diff := cmp.Diff([]string{"received r1", "throttled f arn:f", "finished r1"}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := Received{Version: v, RequestID: "r1", Time: now, Segment: true, CallerParent: "53995c3f42cd8ad8",
		TraceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0000000000000000;Sampled=1;Lineage=1:acb3d4bc:0"}
	if diff := cmp.Diff(want, received); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	told = nil
	if _, err := i.Invoke(context.Background(), &Request{Function: firn.FunctionRef{Name: "g"}}); err == nil || told != nil {
		t.Errorf("%v, told %v", err, told)
	}
}

// A caller that gives up while it waits for room is not throttled.
func TestGivingUpIsNoThrottle(t *testing.T) {
	i := New(Config{Resolver: one{&firn.FunctionVersion{Name: "f"}}, Fleet: fullFleet(t),
		Throttled: func(*firn.FunctionVersion, string) { t.Error("throttled") }})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := i.Invoke(ctx, &Request{Function: firn.FunctionRef{Name: "f"}}); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}
