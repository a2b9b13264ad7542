package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// supplier is a shelf that is filled on demand, once let go; java never comes.
type supplier struct {
	shelf
	arrives chan struct{}
}

func (s *supplier) Bring(ctx context.Context, name string) error {
	select {
	case <-s.arrives:
	case <-ctx.Done():
		return ctx.Err()
	}
	if strings.HasPrefix(name, "java") {
		return errors.New("fetch x: no route\nOther ways: none")
	}
	s.put(name, firn.Digest(strings.Repeat("ab", 32)))
	return nil
}

// TestBringRuntimes has functions wait, Pending, for a runtime that the node
// fetches, without any other function waiting with them.
func TestBringRuntimes(t *testing.T) {
	s := &supplier{shelf: shelf{have: map[string]firn.Digest{}}, arrives: make(chan struct{})}
	w := newWorld(t, options{runtimes: s})
	wanted := map[string]types.Runtime{"a": types.RuntimePython313, "b": types.RuntimePython313, "c": types.RuntimeNodejs22x, "j": types.RuntimeJava21}
	for name, runtime := range wanted {
		in := creation(name, hello())
		ofRuntime(runtime)(in)
		out, err := w.CreateFunction(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if out.State != types.StatePending || out.RuntimeVersionConfig != nil {
			t.Errorf("%s: %s %+v", name, out.State, out.RuntimeVersionConfig)
		}
	}
	w.create("beside", hello()) // and is active
	for name := range wanted {
		if got := w.configuration(name).State; got != types.StatePending {
			t.Errorf("%s is %s before its runtime is here", name, got)
		}
	}
	close(s.arrives)
	for _, name := range []string{"a", "b", "c"} {
		w.active(name)
		if got := w.configuration(name).RuntimeVersionConfig; got == nil || got.Error != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	waiter := lambda.NewFunctionActiveV2Waiter(w.Client, func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay, o.MaxDelay = 1e6, 1e7 })
	if err := waiter.Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("j")}, 1e10); err == nil {
		t.Error("a function without its runtime became active")
	}
	got := w.configuration("j")
	if got.State != types.StateFailed || got.StateReasonCode != types.StateReasonCodeInvalidRuntime ||
		aws.ToString(got.StateReason) != "The runtime java21 could not be brought to this node: fetch x: no route. Other ways: none" {
		t.Errorf("%s %s %s", got.State, got.StateReasonCode, aws.ToString(got.StateReason))
	}
}
