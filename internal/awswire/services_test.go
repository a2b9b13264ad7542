package awswire

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// operationsOf lists the operations of an SDK client with the types of their
// inputs and outputs.
func operationsOf(client any) map[string][2]reflect.Type {
	ops := map[string][2]reflect.Type{}
	t := reflect.TypeOf(client)
	for i := range t.NumMethod() {
		m := t.Method(i)
		if m.Type.NumIn() == 4 && m.Type.NumOut() == 2 && strings.HasSuffix(m.Type.In(2).String(), "Input") {
			ops[m.Name] = [2]reflect.Type{m.Type.In(2).Elem(), m.Type.Out(0).Elem()}
		}
	}
	return ops
}

// TestEveryOperationIsListed holds the lists of operations against the methods
// of the SDK's clients.
func TestEveryOperationIsListed(t *testing.T) {
	for _, c := range []struct {
		service *Service
		client  any
	}{
		{Lambda(), &lambda.Client{}},
		{CloudWatchLogs(), &cloudwatchlogs.Client{}},
		{CloudWatch(), &cloudwatch.Client{}},
		{ECR(), &ecr.Client{}},
		{STS(), &sts.Client{}},
	} {
		mux := NewService(Config{}, c.service)
		var got, want []string
		for name := range mux.ops {
			got = append(got, name)
		}
		for name := range operationsOf(c.client) {
			want = append(want, name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d operations, the client has %d:\n%v\n%v", c.service.Name, len(got), len(want), got, want)
		}
		if c.service.SigningName == "sts" {
			continue // the SDK's structures have no schemas
		}
		for name, types := range operationsOf(c.client) {
			mux.mountReflected(name, types, func(context.Context, any, any) error { return nil })
		}
	}
}

// mountReflected mounts serve as one operation whose types are only known at
// run time. It does what Handle does.
func (m *Mux) mountReflected(name string, types [2]reflect.Type, serve serveAll) {
	input, output := m.codec.rootPlan(types[0]), m.codec.rootPlan(types[1])
	op := m.mustMount(name)
	op.serve = func(w http.ResponseWriter, r *Request) error {
		in, out := reflect.New(types[0]), reflect.New(types[1])
		if err := m.codec.decode(input, in.Elem(), r); err != nil {
			return err
		}
		if err := serve(context.WithValue(r.HTTP.Context(), requestKey{}, r), in.Interface(), out.Interface()); err != nil {
			return err
		}
		return m.writeOutput(w, r, output, out.Elem())
	}
}
