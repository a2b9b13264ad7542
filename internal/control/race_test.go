package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// together runs call n times at once and counts successes and refusals; other
// errors fail the test.
func together(t *testing.T, n int, refused func(error) bool, call func(i int) error) (ok int32) {
	t.Helper()
	var done atomic.Int32
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			switch err := call(i); {
			case err == nil:
				done.Add(1)
			case !refused(err):
				t.Error(err)
			}
		})
	}
	group.Wait()
	return done.Load()
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestOneOfManyWins(t *testing.T) {
	w := newWorld(t, options{})
	ctx := t.Context()
	created := together(t, 8, is[*types.ResourceConflictException], func(i int) error {
		_, err := w.CreateFunction(ctx, creation("f", small(fmt.Sprint(i))))
		return err
	})
	if created != 1 {
		t.Errorf("%d of 8 created the same function", created)
	}
	w.active("f")
	revision := w.configuration("f").RevisionId
	updated := together(t, 8, func(err error) bool {
		return is[*types.PreconditionFailedException](err) || is[*types.ResourceConflictException](err)
	}, func(i int) error {
		_, err := w.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), RevisionId: revision, Timeout: aws.Int32(int32(i + 1))})
		return err
	})
	if updated != 1 {
		t.Errorf("%d of 8 updated the same revision", updated)
	}
	w.active("f")
	tagged := together(t, 8, func(error) bool { return false }, func(i int) error {
		_, err := w.TagResource(ctx, &lambda.TagResourceInput{Resource: aws.String(functionARN("f")), Tags: map[string]string{fmt.Sprint("k", i): "v"}})
		return err
	})
	got, err := w.ListTags(ctx, &lambda.ListTagsInput{Resource: aws.String(functionARN("f"))})
	if err != nil || tagged != 8 || len(got.Tags) != 8 {
		t.Errorf("%v, %v after %d", got, err, tagged)
	}
	deleted := together(t, 8, is[*types.ResourceNotFoundException], func(int) error {
		_, err := w.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")})
		return err
	})
	if deleted != 1 {
		t.Errorf("%d of 8 deleted it", deleted)
	}
	var mu sync.Mutex
	numbers := map[int64]bool{}
	published := together(t, 8, func(error) bool { return false }, func(i int) error {
		out, err := w.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: small(fmt.Sprint(i))}})
		if err == nil {
			mu.Lock()
			numbers[out.Version] = true
			mu.Unlock()
		}
		return err
	})
	if published != 8 || len(numbers) != 8 || !numbers[8] {
		t.Errorf("%d versions with the numbers %v", published, numbers)
	}
	settings, err := w.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil || settings.AccountUsage.FunctionCount != 0 {
		t.Errorf("%+v, %v", settings.AccountUsage, err)
	}
}

// TestSweepSparesWhatIsBeingStored sweeps without a pause while functions and
// layers with the same few archives come and go: none that is referred to may
// be missing, none that is not may stay.
func TestSweepSparesWhatIsBeingStored(t *testing.T) {
	w := newWorld(t, options{})
	ctx, stop := context.WithCancel(t.Context())
	var sweeping, group sync.WaitGroup
	sweeping.Go(func() {
		for ctx.Err() == nil {
			w.control.Sweep(ctx)
		}
	})
	archives := [][]byte{small("a"), small("b")}
	download := func(url string, want []byte) {
		if status, body := fetch(t, url); status != http.StatusOK || body != string(want) {
			t.Errorf("%d and %d bytes", status, len(body))
		}
	}
	for i := range 4 {
		group.Go(func() {
			name, layer := aws.String(fmt.Sprint("f", i)), aws.String(fmt.Sprint("l", i))
			for n := range 25 {
				zip := archives[(i+n)%2]
				published, err := w.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: layer, Content: &types.LayerVersionContentInput{ZipFile: zip}})
				if err != nil {
					t.Error(err)
					return
				}
				in := creation(*name, zip)
				in.Layers = []string{*published.LayerVersionArn}
				if _, err = w.CreateFunction(ctx, in); err != nil {
					t.Error(err)
					return
				}
				w.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: layer, VersionNumber: &published.Version})
				got, err := w.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
				if err != nil {
					t.Error(err)
					return
				}
				download(*got.Code.Location, zip)
				if n < 24 {
					w.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
				}
			}
		})
	}
	group.Wait()
	stop()
	sweeping.Wait()
	for i := range 4 {
		w.active(fmt.Sprint("f", i))
		if got := w.configuration(fmt.Sprint("f", i)); got.State != types.StateActive {
			t.Errorf("%+v", got)
		}
	}
	w.control.Sweep(t.Context())
	if n := w.countBlobs(); n != 2 {
		t.Errorf("%d archives are stored, want 2", n)
	}
}
