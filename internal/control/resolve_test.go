package control_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/firn-run/firn"
)

// Resolving is on the path of every invocation: unqualified it allocates
// nothing, qualified the ARN that it returns.
func TestResolveAllocates(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 2)
	if _, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1"), RoutingConfig: routing("2", 0.5)}); err != nil {
		t.Fatal(err)
	}
	for qualifier, want := range map[string]float64{"": 0, "1": 1, "live": 1} {
		got := testing.AllocsPerRun(1000, func() {
			if _, _, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: qualifier}); err != nil {
				t.Fatal(err)
			}
		})
		if got > want {
			t.Errorf("%q: %v allocations, want at most %v", qualifier, got, want)
		}
	}
}

// While versions come and go and the alias moves, whoever resolves it finds a
// version.
func TestResolveWhileChanging(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 2)
	w.alias("f", "live", "1")
	var stop atomic.Bool
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			for !stop.Load() {
				v, arn, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: "live"})
				if firn.KindOf(err) == firn.ResourceConflict {
					continue // the alias went to a version that is still Pending
				}
				if err != nil || arn != functionARN("f")+":live" || v.Version == firn.Latest {
					t.Errorf("%+v %s %v", v, arn, err)
					return
				}
			}
		})
	}
	// Refusals are expected: they race with each other.
	expect := func(err error) {
		var api smithy.APIError
		if err != nil && !errors.As(err, &api) {
			t.Error(err)
		}
	}
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := range 40 {
			_, err := w.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String(fmt.Sprint(1 + i%3)), RoutingConfig: &types.AliasRoutingConfiguration{}})
			expect(err)
		}
	})
	changing.Go(func() {
		for i := range 40 {
			_, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: zipOf(map[string]string{"bootstrap*": fmt.Sprint(i)}), Publish: true})
			expect(err)
		}
	})
	changing.Go(func() {
		for i := range 40 {
			_, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String(fmt.Sprint(1 + i%5))})
			expect(err)
		}
	})
	changing.Wait()
	stop.Store(true)
	work.Wait()
	w.restart()
	if _, _, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: "live"}); err != nil {
		t.Error(err)
	}
}
