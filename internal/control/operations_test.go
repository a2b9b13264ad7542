package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/firn-run/firn/internal/awswire"
)

// The suite over all operations of the Lambda API. Which there are is read off
// the SDK's schemas, and what each may answer off AWS's model of the API
// (testdata/errors.json); the tables in the other operations_*_test.go say how
// each answer is brought about. What the tables leave out fails the suite.

// entry is an operation in the tables.
type entry struct {
	// success is answered with the documented status.
	success call
	// has names the members of that answer that must be set, parted by spaces.
	has string
	// errors are calls by the documented exception that answers them.
	errors map[string]call
	// absent: what the operation is about cannot be made, so that there is no
	// success.
	absent bool
	// later: firn does not serve the operation yet, and says so by name.
	later bool
}

// call sends one request of the operation whose entry it stands in.
type call func(s *suite) (out any, err error)

// send is the call that needs nothing but its input.
func send(in any) call { return func(s *suite) (any, error) { return s.send(in) } }

// documented is what AWS's model says of the answers of operations.
type documented struct {
	Operations map[string]struct {
		Status int
		Errors []string
	}
	Exceptions map[string]int // statuses
}

func readDocumented(t *testing.T) documented {
	t.Helper()
	text, err := os.ReadFile("testdata/errors.json")
	if err != nil {
		t.Fatal(err)
	}
	var d documented
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// allEntries joins the tables.
func allEntries(t *testing.T) map[string]entry {
	t.Helper()
	all := map[string]entry{}
	for _, table := range []map[string]entry{
		functionEntries(), publishedEntries(), settingEntries(), policyEntries(), layerEntries(), invocationEntries(), absentEntries(), laterEntries(),
	} {
		for name, e := range table {
			if _, twice := all[name]; twice {
				t.Errorf("%s stands in two tables", name)
			}
			all[name] = e
		}
	}
	return all
}

// schemaOperations are the names of the operations that the SDK has.
func schemaOperations() []string {
	var names []string
	for _, schema := range awswire.Lambda().Operations {
		names = append(names, schema.ID().Name)
	}
	slices.Sort(names)
	return names
}

// surface is what the tables are held against.
type surface struct {
	model      documented
	operations []string // of the SDK's schemas
	mounted    []string
}

func readSurface(t *testing.T) surface {
	t.Helper()
	w := newWorld(t, allEffects(nil))
	mux := awswire.New(awswire.Config{})
	w.control.Mount(mux)
	return surface{readDocumented(t), schemaOperations(), mux.Mounted()}
}

// TestOperationTables holds the tables against the SDK's schemas, the model,
// and what is mounted.
func TestOperationTables(t *testing.T) {
	s := readSurface(t)
	if len(s.operations) < 88 {
		t.Errorf("the schemas have %d operations", len(s.operations))
	}
	for _, problem := range s.gaps(allEntries(t)) {
		t.Error(problem)
	}
}

// gaps tells what is wrong with the tables.
func (s surface) gaps(entries map[string]entry) (problems []string) {
	tell := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for name := range entries {
		if !slices.Contains(s.operations, name) {
			tell("%s is no operation of the schemas", name)
		}
	}
	for _, name := range s.operations {
		e, ok := entries[name]
		_, known := s.model.Operations[name]
		mounted := slices.Contains(s.mounted, name)
		switch {
		case !ok:
			tell("%s has no entry", name)
		case !known:
			tell("%s is not in testdata/errors.json, which must be of a newer model", name)
		case e.later && (e.success != nil || len(e.errors) > 0):
			tell("%s comes later, and has rows", name)
		case e.later && mounted:
			tell("%s comes later, and is mounted", name)
		case !e.later && !mounted:
			tell("%s has an entry, and is not mounted", name)
		case !e.later && !e.absent && e.success == nil:
			tell("%s has no row of success", name)
		case e.absent && e.success != nil:
			tell("%s has a row of success, and nothing to have success with", name)
		}
	}
	return append(problems, uncovered(entries, s.model)...)
}

// uncovered tells the documented errors that have neither row nor reason, and
// the rows and reasons that have no documented error.
func uncovered(entries map[string]entry, model documented) (problems []string) {
	reasons := reasons()
	used := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		if e.later {
			continue
		}
		errs := model.Operations[name].Errors
		for exception := range e.errors {
			if !slices.Contains(errs, exception) {
				problems = append(problems, fmt.Sprintf("%s has a row for %s, which is not documented", name, exception))
			}
		}
		for _, exception := range errs {
			row := e.errors[exception] != nil
			covered := row
			for i, r := range reasons {
				if !r.applies(name, exception) {
					continue
				}
				if row && r.operations != "" {
					problems = append(problems, fmt.Sprintf("%s has a row for %s and a reason why there cannot be one", name, exception))
				}
				if !row {
					covered = true
					used[fmt.Sprint(i, exception)] = true
					used[fmt.Sprint(i, "of", name)] = true
				}
			}
			if !covered {
				problems = append(problems, fmt.Sprintf("%s has neither a row nor a reason for %s", name, exception))
			}
		}
	}
	for i, r := range reasons {
		for exception := range strings.FieldsSeq(r.exceptions) {
			if !used[fmt.Sprint(i, exception)] {
				problems = append(problems, fmt.Sprintf("no operation needs the reason for %s: %s", exception, r.why))
			}
		}
		for name := range strings.FieldsSeq(r.operations) {
			if !used[fmt.Sprint(i, "of", name)] {
				problems = append(problems, fmt.Sprintf("%s does not need the reason: %s", name, r.why))
			}
		}
	}
	return problems
}

// TestOperationGaps: each gap of the tables is seen.
func TestOperationGaps(t *testing.T) {
	s := readSurface(t)
	row := send(&lambda.GetAliasInput{})
	for want, change := range map[string]func(map[string]entry){
		"GetAlias has no entry":                            func(all map[string]entry) { delete(all, "GetAlias") },
		"GetAlia is no operation of the schemas":           func(all map[string]entry) { all["GetAlia"] = entry{later: true} },
		"GetAlias comes later, and is mounted":             func(all map[string]entry) { all["GetAlias"] = entry{later: true} },
		"GetAlias comes later, and has rows":               func(all map[string]entry) { all["GetAlias"] = entry{later: true, success: row} },
		"GetEventSourceMapping has a row of success":       func(all map[string]entry) { all["GetEventSourceMapping"] = entry{absent: true, success: row} },
		"GetAlias has no row of success":                   func(all map[string]entry) { all["GetAlias"] = entry{errors: all["GetAlias"].errors} },
		"GetCapacityProvider has an entry, and is not mou": func(all map[string]entry) { all["GetCapacityProvider"] = entry{success: row} },
		"GetAlias has neither a row nor a reason for ResourceNotFoundException": func(all map[string]entry) {
			delete(all["GetAlias"].errors, notFoundCode)
		},
		"GetAlias has a row for ResourceConflictException, which is not documented": func(all map[string]entry) {
			all["GetAlias"].errors[conflictCode] = row
		},
		"DeleteAlias has a row for ResourceConflictException and a reason why there cannot be one": func(all map[string]entry) {
			all["DeleteAlias"].errors[conflictCode] = row
		},
		"no operation needs the reason for AliasLimitExceededException": func(all map[string]entry) { delete(all, "CreateAlias") },
		"ListLayerVersions does not need the reason":                    func(all map[string]entry) { delete(all, "ListLayerVersions") },
	} {
		all := allEntries(t)
		change(all)
		problems := s.gaps(all)
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("not told: %s; but %q", want, problems)
		}
	}
}

// TestOperations makes every call of the tables through the SDK's client.
func TestOperations(t *testing.T) {
	entries, model := allEntries(t), readDocumented(t)
	s := newSuite(t)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		if e.later {
			s.run(t, name, func(t *testing.T) { s.later(t, name) })
			continue
		}
		if !e.absent {
			s.run(t, name+"/success", func(t *testing.T) { s.succeeds(t, name, e, model.Operations[name].Status) })
		}
		for _, exception := range slices.Sorted(maps.Keys(e.errors)) {
			s.run(t, name+"/"+exception, func(t *testing.T) {
				_, err := e.errors[exception](s)
				s.wantSent(t, name)
				s.fails(t, err, exception, model.Exceptions[exception])
			})
		}
	}
}

// run is t.Run with the suite's own failures in the right place.
func (s *suite) run(t *testing.T, name string, row func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		defer func(outer *testing.T) { s.t = outer }(s.t)
		s.t = t
		row(t)
	})
}

// succeeds makes the call of success and looks at its answer.
func (s *suite) succeeds(t *testing.T, name string, e entry, status int) {
	out, err := e.success(s)
	s.wantSent(t, name)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(out).Elem()
	meta := v.FieldByName("ResultMetadata").Interface().(middleware.Metadata)
	raw, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response)
	if !ok {
		t.Fatal("the SDK gives no response")
	}
	if own := v.FieldByName("StatusCode"); own.IsValid() {
		status = int(own.Int()) // the answer has its status as a member
	}
	if raw.StatusCode != status || status/100 != 2 {
		t.Errorf("status %d, documented is %d", raw.StatusCode, status)
	}
	for member := range strings.FieldsSeq(e.has) {
		if m := v.FieldByName(member); !m.IsValid() || m.IsZero() || m.Kind() == reflect.Slice && m.Len() == 0 {
			t.Errorf("the answer has no %s: %+v", member, out)
		}
	}
}

// fails checks an error: the SDK's typed exception, its status, and that it
// says something.
func (s *suite) fails(t *testing.T, err error, exception string, status int) {
	if other := answeredAs()[exception]; other != "" {
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != other {
			t.Fatalf("%v, want %s", err, other)
		}
	} else {
		typ := exceptionType(exception)
		if typ == nil {
			t.Fatalf("the SDK has no exception %s", exception)
		}
		typed := reflect.New(typ)
		if !errors.As(err, typed.Interface()) {
			t.Fatalf("%v, want %s", err, exception)
		}
		wantMembers(t, typed.Elem().Elem(), status)
	}
	wantStatus(t, err, status)
}

// wantMembers checks what an exception has beside its message: who is to
// blame, and why a throttle is one.
func wantMembers(t *testing.T, exception reflect.Value, status int) {
	t.Helper()
	side := "User"
	if status >= 500 {
		side = "Service"
	}
	if untyped(exception) {
		side = ""
	}
	if m := exception.FieldByName("Type"); m.IsValid() && aws.ToString(m.Interface().(*string)) != side {
		t.Errorf("%+v: the Type is not %q", exception.Interface(), side)
	}
	if m := exception.FieldByName("Reason"); m.IsValid() && m.String() == "" {
		t.Errorf("%+v has no Reason", exception.Interface())
	}
}

func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != status {
		t.Errorf("%v, want status %d", err, status)
	}
	var api smithy.APIError
	if errors.As(err, &api) && strings.TrimSpace(api.ErrorMessage()) == "" {
		t.Errorf("%v says nothing", err)
	}
}

// untyped are the exceptions that AWS answers without a Type, as recorded.
func untyped(exception reflect.Value) bool {
	message := aws.ToString(exception.FieldByName("Message").Interface().(*string))
	return strings.HasPrefix(message, "The Lambda code signing configuration ") || strings.HasPrefix(message, " ReservedConcurrentExecutions ")
}

// exceptionType is the SDK's type of an exception, or nil.
func exceptionType(name string) reflect.Type {
	for id, e := range awswire.Lambda().Types.Entries {
		if _, short, _ := strings.Cut(id, "#"); short == name {
			return reflect.TypeOf(e.New())
		}
	}
	return nil
}

// later sends an operation that is not served, with something in every member.
func (s *suite) later(t *testing.T, name string) {
	method, ok := reflect.TypeFor[*lambda.Client]().MethodByName(name)
	if !ok {
		t.Fatal("the client has no such method")
	}
	in := reflect.New(method.Type.In(2).Elem())
	fillInput(in.Elem(), 0)
	_, err := s.send(in.Interface())
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "NotImplementedException" || !strings.Contains(api.ErrorMessage(), "does not serve "+name+" yet") {
		t.Fatal(err)
	}
	wantStatus(t, err, 501)
}

// fillInput sets everything that is exported, down to a depth that no input needs.
func fillInput(v reflect.Value, depth int) {
	if depth > 6 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillInput(v.Elem(), depth+1)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillInput(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillInput(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fillInput(key, depth+1)
		fillInput(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	}
}
