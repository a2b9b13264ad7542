package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/fleet"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/state"
)

// suite is the node that the tables call, with what they speak of:
//
//   - f: version 1 and 2, alias live, every setting. It is asked, and set.
//   - d: the same. Its rows delete each another part of it.
//   - hot: version 1 under the alias hot and version 2 have provisioned
//     concurrency; the alias cold means version 2.
//   - code, cfg, x: to update the code, the configuration, and to delete.
//   - run: can be invoked. off: its reserved concurrency is 0.
//   - long: a policy that is as good as full. bare: nothing but code.
//   - layer l: versions 1 (with a policy), 2 (to delete) and 3.
//   - no, nol: a function and a layer that there are not.
//
// What is written there by one row does not bear on another one.
type suite struct {
	*world
	gate    *gated
	root    *testing.T // ends with the suite
	foreign *world
	sent    string // the last operation
	n       int    // of functions that were pending
}

// enforced has reserved concurrency kept by the fleet of a node.
type enforced struct {
	*limits
	fleet atomic.Pointer[fleet.Fleet]
}

// SetReserved implements control.Limits.
func (e *enforced) SetReserved(arn string, n *int) {
	e.limits.SetReserved(arn, n)
	if f := e.fleet.Load(); f != nil {
		f.SetReserved(arn, n)
	}
}

// allEffects are the options of a node that serves all settings.
func allEffects(l control.Limits) options {
	if l == nil {
		l = newLimits()
	}
	effects := urlEffects()
	effects.Limits, effects.Async, effects.Recursion, effects.RuntimeVersions = l, true, true, true
	return options{concurrency: 200, effects: effects}
}

// checking accepts the events that an invocation would not refuse, as package
// async does, and has them forgotten.
type checking struct{ *invoke.Invoker }

// Accept implements control.Acceptor.
func (c checking) Accept(_ context.Context, r *invoke.Request) error { return c.Check(r) }

func newSuite(t *testing.T) *suite {
	reserved := &enforced{limits: newLimits()}
	opt := allEffects(reserved)
	s := &suite{gate: gate(&opt), root: t}
	s.world = newWorld(t, opt)
	reserved.fleet.Store(s.fleet)
	s.control.SetAcceptor(checking{invoke.New(invoke.Config{Resolver: s.control, Fleet: s.fleet})})
	for _, name := range []string{"f", "d"} {
		s.versions(name, 2)
		s.alias(name, "live", "1")
		s.settings(name)
	}
	s.versions("hot", 2)
	s.alias("hot", "hot", "1")
	s.alias("hot", "cold", "2")
	s.must(s.provision("hot", "hot", 1))
	s.must(s.provision("hot", "2", 1))
	for _, name := range []string{"code", "cfg", "x", "long", "bare", "off"} {
		s.create(name, hello())
	}
	s.must(s.reserve("off", 0))
	s.create("run", actorZip(t))
	for i := range 3 {
		s.publishLayer("l", small(fmt.Sprint(i)))
	}
	s.make(layerPermission("l", "s"))
	s.make(&lambda.PutResourcePolicyInput{ResourceArn: aws.String(functionARN("long")), Policy: aws.String(policyOf("*", 20400))})
	return s
}

// settings gives a function one of each.
func (s *suite) settings(name string) {
	s.t.Helper()
	s.must(s.reserve(name, 5))
	s.must(s.provision(name, "1", 1))
	for _, qualifier := range []string{"", ":1", ":live"} {
		in := permission(name+qualifier, "s", "lambda:InvokeFunction", "s3.amazonaws.com")
		s.make(&in)
	}
	s.make(&lambda.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumRetryAttempts: aws.Int32(1)})
	s.make(&lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone})
	s.make(&lambda.TagResourceInput{Resource: aws.String(functionARN(name)), Tags: map[string]string{"k": "v"}})
}

// policyOf is a policy of one statement about a resource, of some bytes.
func policyOf(resource string, size int) string {
	text := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":%q}]}`, resource)
	return strings.Replace(text, `"Sid":"s"`, `"Sid":"`+strings.Repeat("s", max(1, size-len(text)))+`"`, 1)
}

func layerPermission(layer, sid string) *lambda.AddLayerVersionPermissionInput {
	return &lambda.AddLayerVersionPermissionInput{
		LayerName: &layer, VersionNumber: aws.Int64(1), StatementId: &sid, Action: aws.String("lambda:GetLayerVersion"), Principal: aws.String(otherAccount),
	}
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// make makes a call that must not fail.
func (s *suite) make(in any) any {
	s.t.Helper()
	out, err := s.send(in)
	s.must(err)
	return out
}

// send makes the call that an input is of.
func (s *suite) send(in any, opts ...func(*lambda.Options)) (any, error) {
	return s.sendTo(s.Client, in, opts...)
}

func (s *suite) sendTo(client *lambda.Client, in any, opts ...func(*lambda.Options)) (any, error) {
	s.sent = strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
	args := []reflect.Value{reflect.ValueOf(s.t.Context()), reflect.ValueOf(in)}
	for _, o := range opts {
		args = append(args, reflect.ValueOf(o))
	}
	answer := reflect.ValueOf(client).MethodByName(s.sent).Call(args)
	err, _ := answer[1].Interface().(error)
	return answer[0].Interface(), err
}

func (s *suite) wantSent(t *testing.T, name string) {
	t.Helper()
	if s.sent != name {
		t.Errorf("the row calls %s", s.sent)
	}
}

// pending is a call about a function that is being created meanwhile.
func pending(in func(name string) any) call {
	return func(s *suite) (any, error) {
		defer s.gate.hold()()
		s.n++
		name := fmt.Sprint("pending", s.n)
		s.make(creation(name, small(name)))
		return s.send(in(name))
	}
}

// onForeign is a call to a node whose data directory is of another one, which
// had managed runtimes, and whose code storage is full.
func onForeign(in any) call {
	return func(s *suite) (any, error) {
		s.t.Helper()
		if s.foreign == nil {
			s.foreign = newForeign(s.root)
		}
		return s.sendTo(s.foreign.Client, in)
	}
}

func newForeign(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, options{})
	w.create("f", hello())
	w.create("py", small("py"))
	const layer = `{"Name":"huge","Number":1,"Digest":"%064x","Size":%d,"Unzipped":1,"Created":"2026-01-01T00:00:00.000+0000"}`
	err := w.store.Update(t.Context(), func(tx state.Tx) error {
		if _, err := tx.Put("layer", fmt.Sprintf("huge/%019d", 1), fmt.Appendf(nil, layer, 1, int64(firn.MaxCodeStorageBytes)-1)); err != nil {
			return err
		}
		raw, _, err := tx.Get("function", "py")
		if err != nil {
			return err
		}
		value := bytes.Replace(raw.Value, []byte(`"provided.al2023"`), []byte(`"python3.13"`), 1)
		if bytes.Equal(value, raw.Value) || !json.Valid(value) {
			return fmt.Errorf("no runtime in %s", raw.Value)
		}
		_, err = tx.Put("function", "py", value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	return w
}
