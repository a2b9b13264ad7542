package control_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
)

// shelf has the runtimes of a node, by name.
type shelf struct {
	mu   sync.Mutex
	have map[string]firn.Digest
}

func (s *shelf) Version(_ context.Context, name string) (firn.Digest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.have[name]; ok {
		return d, nil
	}
	return "", &runtimes.MissingError{Name: name, Command: "firn runtime build " + name}
}

func (s *shelf) put(name string, d firn.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == "" {
		delete(s.have, name)
		return
	}
	s.have[name] = d
}

func ofRuntime(r types.Runtime) func(*lambda.CreateFunctionInput) {
	return func(in *lambda.CreateFunctionInput) { in.Runtime, in.Handler = r, aws.String("app.handler") }
}

// TestManagedRuntimes takes the runtimes that AWS still takes, if they are
// here, and says of the others why not.
func TestManagedRuntimes(t *testing.T) {
	have := firn.Digest(strings.Repeat("ab", 32))
	w := newWorld(t, options{runtimes: &shelf{have: map[string]firn.Digest{"python3.13": have, "python3.9": have, "java21": have}}})
	const gone = " is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
	for _, c := range []struct {
		runtime types.Runtime
		refusal string
	}{
		{types.RuntimePython313, ""},
		{types.RuntimePython39, ""}, // deprecated, and still taken
		{types.RuntimeJava21, ""},
		{types.RuntimeProvidedal2, ""},
		{types.RuntimeNodejs22x, "The runtime nodejs22.x is not on this machine yet. Bring it with: firn runtime build nodejs22.x"},
		{types.RuntimePython38, "The runtime parameter of python3.8" + gone},
		{types.RuntimeNodejs, "The runtime parameter of nodejs" + gone},
		{types.RuntimeGo1x, "The runtime parameter of go1.x" + gone},
	} {
		t.Run(string(c.runtime), func(t *testing.T) {
			in := creation("f-"+strings.ReplaceAll(string(c.runtime), ".", "-"), hello())
			ofRuntime(c.runtime)(in)
			out, err := w.CreateFunction(t.Context(), in)
			if c.refusal != "" {
				wantFault(t, err, "InvalidParameterValueException", c.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			managed := !strings.HasPrefix(string(c.runtime), "provided")
			if managed && (out.RuntimeVersionConfig == nil || *out.RuntimeVersionConfig.RuntimeVersionArn != "arn:aws:lambda:"+region+"::runtime:"+string(have)) ||
				!managed && out.RuntimeVersionConfig != nil {
				t.Errorf("%+v", out.RuntimeVersionConfig)
			}
			w.active(*in.FunctionName)
			v, _, err := w.control.Resolve(firn.FunctionRef{Name: *in.FunctionName})
			if err != nil || v.Runtime != string(c.runtime) || v.Handler != "app.handler" {
				t.Errorf("%+v %v", v, err)
			}
		})
	}
}

// TestRuntimeVersions shows what a function runs on, where AWS shows it, and
// follows a runtime that is built anew or removed.
func TestRuntimeVersions(t *testing.T) {
	first, second := firn.Digest(strings.Repeat("1", 64)), firn.Digest(strings.Repeat("2", 64))
	s := &shelf{have: map[string]firn.Digest{"python3.13": first}}
	w := newWorld(t, options{runtimes: s})
	w.create("f", hello(), ofRuntime(types.RuntimePython313))
	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	shown := func(d firn.Digest) {
		t.Helper()
		get, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f:1")})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []*types.RuntimeVersionConfig{get.Configuration.RuntimeVersionConfig, w.configuration("f").RuntimeVersionConfig} {
			if got == nil || got.Error != nil || !strings.HasSuffix(*got.RuntimeVersionArn, "::runtime:"+string(d)) {
				t.Errorf("%+v, want %s", got, d)
			}
		}
	}
	shown(first)
	s.put("python3.13", second)
	shown(second)
	// A runtime that changes makes no new version of a function.
	again, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")})
	if err != nil || *again.Version != "1" {
		t.Errorf("%v %v", again, err)
	}
	list, err := w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 1 || list.Functions[0].RuntimeVersionConfig != nil {
		t.Errorf("%+v %v", list, err)
	}
	s.put("python3.13", "")
	if got := w.configuration("f").RuntimeVersionConfig; got == nil || got.Error == nil || !strings.Contains(*got.Error.Message, "firn runtime build python3.13") {
		t.Errorf("%+v", got)
	}
	// Nobody is kept from changing something else.
	if _, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(9)}); err != nil {
		t.Error(err)
	}
	w.active("f")
	_, err = w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Runtime: types.RuntimePython312})
	wantFault(t, err, "InvalidParameterValueException", "The runtime python3.12 is not on this machine yet. Bring it with: firn runtime build python3.12")
}
