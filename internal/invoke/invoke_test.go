package invoke

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/fleet"
)

func TestServiceFault(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		err  error
		want firn.Kind
	}{
		{"the fleet is closed", context.Background(), fleet.ErrClosed, firn.ServiceUnavailable},
		{"environments end", context.Background(), fmt.Errorf("take: %w", environment.ErrEnded), firn.ServiceUnavailable},
		{"the fleet stopped", context.Background(), fmt.Errorf("start: %w", context.Canceled), firn.ServiceUnavailable},
		{"a fault", context.Background(), firn.Faultf(firn.TooManyRequests, "x"), firn.TooManyRequests},
		{"anything", context.Background(), errors.New("disk on fire"), firn.Service},
		{"the caller is gone", gone, context.Canceled, ""},
	} {
		if got := firn.KindOf(serviceFault(test.ctx, test.err)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// one resolves a single name.
type one struct{ v *firn.FunctionVersion }

func (o one) Resolve(ref firn.FunctionRef) (*firn.FunctionVersion, string, error) {
	if ref.Name != o.v.Name {
		return nil, "", firn.Faultf(firn.ResourceNotFound, "no")
	}
	return o.v, o.v.ARN, nil
}

func TestCheck(t *testing.T) {
	i := New(Config{Resolver: one{&firn.FunctionVersion{Name: "f"}}})
	for _, test := range []struct {
		name, payload string
		want          firn.Kind
	}{
		{"f", "", ""},
		{"f", "{}", ""},
		{"f", "{", firn.InvalidRequestContent},
		{"g", "{", firn.ResourceNotFound},
		{"f", string(make([]byte, firn.MaxPayloadBytes+1)), firn.RequestEntityTooLarge},
		{"f", string(make([]byte, firn.MaxPayloadBytes)), firn.InvalidRequestContent},
	} {
		err := i.Check(&Request{Function: firn.FunctionRef{Name: test.name}, Payload: []byte(test.payload)})
		if got := firn.KindOf(err); got != test.want || err == nil != (test.want == "") {
			t.Errorf("%s with %d bytes: %v, want %q", test.name, len(test.payload), err, test.want)
		}
	}
}
