package lifecycle

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Transcripts are the specification of this package's behaviour. A file in
// testdata begins with comments (#) that name the rule and its section; a line
// "config" sets what the environment is; then come events ("> time Event
// field=value ...") with the actions that must follow ("< Action ...").
// Times are relative to the begin. With -update the actions are rewritten from
// what the machine does: review the difference.

var update = flag.Bool("update", false, "rewrite the actions of the transcripts")

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func testConfig() Config {
	return Config{
		InitializationType:  "on-demand",
		InitLimit:           10 * time.Second,
		Timeout:             3 * time.Second,
		AccountID:           "123456789012",
		FunctionName:        "hello",
		FunctionVersion:     "$LATEST",
		Handler:             "index.handler",
		InstanceID:          "2026/01/01/[$LATEST]0123",
		InstanceMaxMemoryMB: 128,
	}
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(want), "# Section") {
				t.Error("the first line must be a comment that cites the section")
			}
			got, err := replay(string(want))
			if err != nil {
				t.Fatal(err)
			}
			if got == string(want) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("actions differ (-want +got):\n%s", cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")))
		})
	}
}

// replay runs a transcript and returns it with the actions that came.
func replay(script string) (string, error) {
	var out strings.Builder
	cfg := testConfig()
	var m *Machine
	for n, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, "<") {
			continue
		}
		out.WriteString(line + "\n")
		fail := func(err error) (string, error) { return "", fmt.Errorf("line %d: %q: %w", n+1, line, err) }
		switch fields := strings.Fields(line); {
		case len(fields) == 0 || strings.HasPrefix(line, "#"):
		case fields[0] == "config" && m == nil:
			if err := setConfig(&cfg, fields[1:]); err != nil {
				return fail(err)
			}
		case fields[0] == ">" && len(fields) >= 3:
			if m == nil {
				m = New(cfg)
			}
			at, err := time.ParseDuration(fields[1])
			if err != nil {
				return fail(err)
			}
			ev, err := parseEvent(fields[2], fields[3:])
			if err != nil {
				return fail(err)
			}
			for _, a := range m.Step(epoch().Add(at), ev) {
				out.WriteString("< " + formatAction(a) + "\n")
			}
		default:
			return fail(fmt.Errorf("neither comment, config, event nor action"))
		}
	}
	return out.String(), nil
}

func setConfig(cfg *Config, fields []string) error {
	for _, f := range fields {
		key, value, _ := strings.Cut(f, "=")
		var err error
		switch key {
		case "externals":
			cfg.Externals = strings.Split(value, ",")
		case "timeout":
			cfg.Timeout, err = time.ParseDuration(value)
		case "limit":
			cfg.InitLimit, err = time.ParseDuration(value)
		case "type":
			cfg.InitializationType = value
		default:
			err = fmt.Errorf("unknown setting %q", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eventTypes() []Event {
	return []Event{
		Begin{}, Invoke{}, Shutdown{}, Abort{}, TimerFired{}, LaunchFailed{}, Exited{}, OutOfMemory{}, ResetDone{}, SandboxFailed{},
		RuntimeNext{}, RuntimeResponse{}, RuntimeResponseBegun{}, RuntimeResponseDone{}, RuntimeError{}, RuntimeInitError{},
		Register{}, ExtensionNext{}, Subscribe{}, ExtensionInitError{}, ExtensionExitError{}, Gone{},
	}
}

// parseEvent makes an event from its name and "field=value" words; "_" stands
// for a space in a value, and the invocation's fields are given to Invoke.
func parseEvent(name string, words []string) (Event, error) {
	for _, zero := range eventTypes() {
		typ := reflect.TypeOf(zero)
		if typ.Name() != name {
			continue
		}
		v := reflect.New(typ).Elem()
		target := v
		if name == "Invoke" {
			target = v.Field(0)
		}
		for _, w := range words {
			key, value, _ := strings.Cut(w, "=")
			f := target.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, key) })
			if !f.IsValid() {
				return nil, fmt.Errorf("%s has no field %q", name, key)
			}
			if err := setField(f, strings.ReplaceAll(value, "_", " ")); err != nil {
				return nil, err
			}
		}
		return v.Interface().(Event), nil
	}
	return nil, fmt.Errorf("unknown event %q", name)
}

func setField(f reflect.Value, value string) error {
	switch f.Interface().(type) {
	case Party:
		if value == "runtime" {
			value = string(RuntimeParty)
		}
		f.SetString(value)
		return nil
	case ResponseFault:
		for fault, name := range faultNames() {
			if name == value {
				f.SetInt(int64(fault))
				return nil
			}
		}
		return fmt.Errorf("unknown fault %q", value)
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(value)
	case reflect.Bool:
		f.SetBool(value == "" || value == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		f.SetInt(n)
		return err
	case reflect.Uint64:
		n, err := strconv.ParseUint(value, 10, 64)
		f.SetUint(n)
		return err
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Uint8 {
			f.SetBytes([]byte(value))
		} else if value != "" {
			f.Set(reflect.ValueOf(strings.Split(value, ",")))
		}
	default:
		return fmt.Errorf("cannot set a %s", f.Type())
	}
	return nil
}

func faultNames() map[ResponseFault]string {
	return map[ResponseFault]string{ResponseComplete: "complete", ResponseTooLarge: "too-large", ResponseTruncated: "truncated"}
}

// formatAction writes an action on one line: its fields that are not zero,
// times relative to the begin, records as their JSON.
func formatAction(a Action) string {
	if e, ok := a.(Emit); ok {
		if p, ok := e.Record.(Phase); ok {
			return strings.TrimSpace("Phase " + p.Name + ": " + p.Detail)
		}
		b, err := json.Marshal(e.Record)
		if err != nil {
			panic(err)
		}
		return "Emit " + e.Record.RecordType() + " " + string(b)
	}
	v := reflect.ValueOf(a)
	var out strings.Builder
	out.WriteString(v.Type().Name())
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		name := strings.ToLower(v.Type().Field(i).Name)
		switch x := f.Interface().(type) {
		case time.Time:
			out.WriteString(fmt.Sprintf(" %s=%v", name, x.Sub(epoch())))
		case Party:
			if x == RuntimeParty {
				x = "runtime"
			}
			out.WriteString(" " + string(x))
		case Invocation:
			out.WriteString(" " + x.RequestID)
		case Result:
			out.WriteString(formatResult(x))
		case []byte:
			out.WriteString(fmt.Sprintf(" %s=%s", name, x))
		case bool:
			out.WriteString(" " + name)
		default:
			out.WriteString(fmt.Sprintf(" %s=%v", name, x))
		}
	}
	return out.String()
}

func formatResult(r Result) string {
	var out string
	if r.FromResponse {
		out += " from-response"
	}
	if r.FunctionError {
		out += " function-error"
	}
	if r.ErrorType != "" {
		out += " type=" + r.ErrorType
	}
	if len(r.Payload) > 0 {
		out += " payload=" + string(r.Payload)
	}
	return out
}
