package control_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/image/oci"
)

const fortnight = 14 * 24 * time.Hour

// refused invokes a function that must refuse for its state.
func (w *world) refused(name string, state types.State) {
	w.t.Helper()
	_, err := w.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: &name})
	wantFault(w.t, err, "ResourceConflictException", "The operation cannot be performed at this time. The function is currently in the following state: "+string(state))
}

// TestIdle lets an image function rest until it gives up its image, and
// brings it back by an invocation, which fails.
func TestIdle(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.create("zip", hello())
	w.createImage("f", "v1")
	w.createImage("busy", "v2")
	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(fortnight - time.Minute)
	w.control.Sweep(t.Context())
	w.running("busy", "")
	w.running("f", "1")
	if cfg := w.configuration("f"); cfg.State != types.StateActive {
		t.Fatalf("%s too early", cfg.State)
	}
	w.clock.advance(2 * time.Minute)
	w.control.Sweep(t.Context())
	cfg := w.settles("f", types.StateInactive)
	if cfg.StateReasonCode != types.StateReasonCodeIdle || *cfg.StateReason == "" {
		t.Errorf("%+v", cfg)
	}
	for _, other := range []string{"zip", "busy", "f:1"} {
		if cfg := w.configuration(other); cfg.State != types.StateActive {
			t.Errorf("%s is %s", other, cfg.State)
		}
	}
	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err == nil {
		t.Error("a version without an image was published")
	}
	w.restart()
	release := s.hold()
	w.refused("f", types.StateInactive)
	if cfg := w.settles("f", types.StatePending); cfg.StateReasonCode != types.StateReasonCodeRestoring {
		t.Errorf("%+v", cfg)
	}
	w.refused("f", types.StatePending)
	if err := w.updateImage("f", "v2"); err == nil {
		t.Error("updated while it is restored")
	}
	release()
	w.settles("f", types.StateActive)
	if got := w.running("f", ""); got.Digest != digestOf("one") {
		t.Errorf("%+v", got)
	}
	last := s.requests[len(s.requests)-1]
	if last.Caller != nil || last.URI != repository+"@"+string(digestOf("one")) || last.FunctionARN != functionARN("f") {
		t.Errorf("%+v", last)
	}
}

// TestIdleVersions: each version rests and comes back by itself, and an image
// that nobody needs is nobody's.
func TestIdleVersions(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.createImage("f", "v1")
	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(fortnight + time.Minute)
	w.control.Sweep(t.Context())
	w.settles("f", types.StateInactive)
	w.settles("f:1", types.StateInactive)
	if used := w.control.ImagesInUse(); len(used) > 0 {
		t.Errorf("%v are in use", used)
	}
	w.refused("f:1", types.StateInactive)
	w.settles("f:1", types.StateActive)
	w.running("f", "1")
	if cfg := w.configuration("f"); cfg.State != types.StateInactive {
		t.Errorf("$LATEST is %s", cfg.State)
	}
	// An update brings $LATEST back.
	if err := w.updateImage("f", "v2"); err != nil {
		t.Fatal(err)
	}
	w.settles("f", types.StateActive)
	if got := w.running("f", ""); got.Digest != digestOf("two") {
		t.Errorf("%+v", got)
	}
}

// TestIdleLost has the image of an inactive function gone, forbidden, and back.
func TestIdleLost(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.createImage("f", "v1")
	w.clock.advance(fortnight + time.Minute)
	w.control.Sweep(t.Context())
	for err, code := range map[error]types.StateReasonCode{
		oci.ErrNotFound: types.StateReasonCodeImageDeleted, oci.ErrDenied: types.StateReasonCodeImageAccessDenied,
	} {
		before := *w.settles("f", types.StateInactive).RevisionId
		s.set(func() { s.resolve = err })
		w.refused("f", types.StateInactive)
		for deadline := time.Now().Add(waitLimit); ; {
			cfg := w.settles("f", types.StateInactive)
			if *cfg.RevisionId != before && cfg.StateReasonCode == code {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v", cfg)
			}
		}
	}
	s.set(func() { s.resolve = nil })
	w.refused("f", types.StateInactive)
	w.settles("f", types.StateActive)
}

// TestIdleInterrupted stops a node while an image is fetched again: the
// function is inactive as before.
func TestIdleInterrupted(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.createImage("f", "v1")
	w.clock.advance(fortnight + time.Minute)
	w.control.Sweep(t.Context())
	release := s.hold()
	defer release()
	w.refused("f", types.StateInactive)
	w.settles("f", types.StatePending)
	w.restart()
	if cfg := w.configuration("f"); cfg.State != types.StateInactive || cfg.StateReasonCode != types.StateReasonCodeIdle {
		t.Errorf("%+v", cfg)
	}
	release()
	w.refused("f", types.StateInactive)
	w.settles("f", types.StateActive)
}

// TestIdleProvisioned: what is kept ready does not rest, and what rests is woken
// to be kept ready.
func TestIdleProvisioned(t *testing.T) {
	told := newLimits()
	w := newWorld(t, options{registry: newShop(), concurrency: 200, effects: control.Effects{Limits: told}})
	w.createImage("f", "v1")
	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: aws.String("f"), Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: aws.Int32(1),
	}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(fortnight + time.Minute)
	w.control.Sweep(t.Context())
	if v, _, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: "1"}); err != nil || v.Image == nil {
		t.Errorf("%+v %v", v, err)
	}
	if _, err := w.DeleteProvisionedConcurrencyConfig(t.Context(), &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(fortnight + time.Minute)
	w.control.Sweep(t.Context())
	w.settles("f:1", types.StateInactive)
	if _, err := w.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{
		FunctionName: aws.String("f"), Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: aws.Int32(1),
	}); err != nil {
		t.Fatal(err)
	}
	w.settles("f:1", types.StateActive)
	for deadline := time.Now().Add(waitLimit); !strings.Contains(told.told(), "1=1"); {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is kept ready: %s", told.told())
		}
		time.Sleep(time.Millisecond) // archtest:sleep the effect of a change follows what readers see of it
	}
}
