package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdAWS is `aws SERVICE OPERATION --parameter value ... [OUTFILE]` as a script
// command: the Go SDK behind the AWS CLI's syntax, for every operation of the
// clients of lambda, logs and cloudwatch, by reflection. `aws lambda wait
// function-active-v2 ...` and function-updated-v2 work too.
func cmdAWS(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: aws SERVICE OPERATION --parameter value ... [OUTFILE]")
	}
	out, err := callAWS(ts, args[0], args[1:])
	switch {
	case err == nil && neg:
		ts.Fatalf("unexpected success: %s", out)
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err != nil:
		fmt.Fprintln(ts.Stderr(), err)
	default:
		fmt.Fprintln(ts.Stdout(), out)
	}
}

// newClient is the SDK's client of a service.
func newClient(ts *testscript.TestScript, service string) (any, error) {
	env := map[string]string{}
	for word := range strings.FieldsSeq(ts.ReadFile("firn.env")) {
		if key, value, ok := strings.Cut(word, "="); ok {
			env[key] = value
		}
	}
	cfg := aws.Config{
		Region:           env["AWS_REGION"],
		Credentials:      credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		RetryMaxAttempts: 1,
	}
	switch service {
	case "lambda":
		cfg.BaseEndpoint = aws.String(env["AWS_ENDPOINT_URL_LAMBDA"])
		return lambda.NewFromConfig(cfg), nil
	case "logs":
		cfg.BaseEndpoint = aws.String(env["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"])
		return cloudwatchlogs.NewFromConfig(cfg), nil
	case "cloudwatch":
		cfg.BaseEndpoint = aws.String(env["AWS_ENDPOINT_URL_CLOUDWATCH"])
		return cloudwatch.NewFromConfig(cfg), nil
	}
	return nil, fmt.Errorf("unknown service %s", service)
}

func callAWS(ts *testscript.TestScript, service string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := newClient(ts, service)
	if err != nil {
		return "", err
	}
	if functions, ok := client.(*lambda.Client); ok && args[0] == "wait" {
		return "", waitFor(ctx, functions, args[1], args[2:])
	}
	name := camel(args[0])
	method := reflect.ValueOf(client).MethodByName(name)
	if !method.IsValid() {
		return "", fmt.Errorf("the client has no operation %s", name)
	}
	input := reflect.New(method.Type().In(1).Elem())
	outfile, err := fill(ts, input.Elem(), args[1:])
	if err != nil {
		return "", err
	}
	results := method.Call([]reflect.Value{reflect.ValueOf(ctx), input})
	if err, _ := results[1].Interface().(error); err != nil {
		var api smithy.APIError
		if errors.As(err, &api) {
			return "", fmt.Errorf("An error occurred (%s) when calling the %s operation: %s", api.ErrorCode(), name, api.ErrorMessage())
		}
		return "", err
	}
	return show(ts, results[0].Elem(), outfile)
}

func waitFor(ctx context.Context, client *lambda.Client, what string, args []string) error {
	if len(args) != 2 || args[0] != "--function-name" {
		return errors.New("usage: aws lambda wait NAME --function-name F")
	}
	in := &lambda.GetFunctionInput{FunctionName: &args[1]}
	switch what {
	case "function-active-v2":
		return lambda.NewFunctionActiveV2Waiter(client, func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay = 20 * time.Millisecond }).Wait(ctx, in, 30*time.Second)
	case "function-updated-v2":
		return lambda.NewFunctionUpdatedV2Waiter(client, func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay = 20 * time.Millisecond }).Wait(ctx, in, 30*time.Second)
	}
	return fmt.Errorf("unknown waiter %s", what)
}

// camel turns create-function into CreateFunction.
func camel(kebab string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(kebab, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// fill sets the members of an input from flags and returns the argument that
// is left, the file for the payload.
func fill(ts *testscript.TestScript, input reflect.Value, args []string) (outfile string, err error) {
	for i := 0; i < len(args); i++ {
		flag, ok := strings.CutPrefix(args[i], "--")
		if !ok {
			outfile = args[i]
			continue
		}
		var values []string
		for i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			i++
			values = append(values, args[i])
			if !isList(input, flag) {
				break
			}
		}
		if err := setMember(ts, input, flag, values); err != nil {
			return "", fmt.Errorf("--%s: %w", flag, err)
		}
	}
	return outfile, nil
}

func isList(input reflect.Value, flag string) bool {
	field, ok := member(input, flag)
	return ok && field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String
}

// member finds the field of a flag; the archive of CreateFunction and
// PublishLayerVersion lies one level deeper.
func member(input reflect.Value, flag string) (reflect.Value, bool) {
	name := strings.ReplaceAll(flag, "-", "")
	if name == "zipfile" {
		for _, outer := range []string{"Code", "Content"} {
			if field := input.FieldByName(outer); field.IsValid() {
				if field.IsNil() {
					field.Set(reflect.New(field.Type().Elem()))
				}
				return field.Elem().FieldByName("ZipFile"), true
			}
		}
	}
	field := input.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
	return field, field.IsValid()
}

func setMember(ts *testscript.TestScript, input reflect.Value, flag string, values []string) error {
	field, ok := member(input, flag)
	if !ok {
		return errors.New("no such parameter")
	}
	if len(values) == 0 {
		values = []string{"true"}
	}
	value := values[0]
	if path, ok := strings.CutPrefix(value, "fileb://"); ok {
		value = ts.ReadFile(path)
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	switch {
	case field.Kind() == reflect.String:
		field.SetString(value)
	case field.Kind() == reflect.Bool:
		field.SetBool(value == "true")
	case field.Type() == reflect.TypeFor[time.Time]():
		ago, err := time.ParseDuration(value) // "-10m" is ten minutes ago
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(time.Now().Add(ago)))
	case field.CanInt():
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return err
		}
		field.SetInt(n)
	case field.Type() == reflect.TypeFor[[]byte]():
		field.SetBytes([]byte(value))
	case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.String:
		list := reflect.MakeSlice(field.Type(), len(values), len(values))
		for i, v := range values {
			list.Index(i).SetString(v)
		}
		field.Set(list)
	default:
		return json.Unmarshal([]byte(value), field.Addr().Interface())
	}
	return nil
}

// show prints an output as JSON without empty members; a payload goes into
// the file named.
func show(ts *testscript.TestScript, out reflect.Value, outfile string) (string, error) {
	if payload := out.FieldByName("Payload"); payload.IsValid() && outfile != "" {
		ts.Check(os.WriteFile(ts.MkAbs(outfile), payload.Bytes(), 0o644))
		payload.SetBytes(nil)
	}
	raw, err := json.Marshal(out.Interface())
	if err != nil {
		return "", err
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return "", err
	}
	delete(members, "ResultMetadata")
	text, err := json.MarshalIndent(prune(members), "", "  ")
	return string(text), err
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value = prune(value); value == nil || value == "" {
				delete(v, key)
			} else {
				v[key] = value
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}
