package awswire

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// accepting is an open Mux that serves every operation with an empty output,
// and notes whether an operation was reached.
func accepting() (m *Mux, reached *bool) {
	m, reached = openMux(), new(bool)
	mountAll(m, func(context.Context, any, any) error { *reached = true; return nil })
	return m, reached
}

// answerOf splits an error answer.
func answerOf(t testing.TB, w *httptest.ResponseRecorder) (kind, message string) {
	t.Helper()
	var body struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Errorf("body %s: %v", w.Body, err)
	}
	return w.Header().Get("X-Amzn-Errortype"), body.Message
}

// TestConstraintMessages has AWS's words for each kind of broken constraint.
func TestConstraintMessages(t *testing.T) {
	m, reached := accepting()
	const (
		create = "/2015-03-31/functions"
		role   = `"Role":"arn:aws:iam::123456789012:role/r"`
		needed = `"FunctionName":"f",` + role + `,"Code":{}`
		one    = "1 validation error detected: "
	)
	long, huge := strings.Repeat("a", 129), strings.Repeat("a", maxMatched)
	const (
		aliases = create + "/f/aliases"
		weights = one + "Value '%s' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: %s"
		weight  = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"
		version = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]"
	)
	routing := func(w string) string {
		return `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":` + w + `}}`
	}
	for _, tc := range []struct {
		method, target, body string
		message              string // empty: accepted
	}{
		{"POST", create, `{` + needed + `}`, ""},
		{"POST", create, `{` + needed + `,"Nonsense":[{"a":null}],"Description":null}`, ""},
		{"POST", create, `{` + needed + `,"Runtime":"nodejs99.x"}`, ""}, // the operation says so, in other words
		{"POST", create, ``, "3 validation errors detected: Value null at 'code' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'functionName' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'role' failed to satisfy constraint: Member must not be null"},
		{"POST", create, `{"FunctionName":null,` + role + `,"Code":{}}`, one + "Value null at 'functionName' failed to satisfy constraint: Member must not be null"},
		{"POST", create, `{` + needed + `,"Handler":"a b"}`, one + "Value 'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+"},
		{"POST", create, `{` + needed + `,"Handler":"` + long + `"}`, one + "Value '" + long + "' at 'handler' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"POST", create, `{` + needed + `,"Handler":"` + long + ` "}`, "2 validation errors detected: Value '" + long + " ' at 'handler' failed to satisfy constraint: Member must have length less than or equal to 128; " +
			"Value '" + long + " ' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+"},
		{"POST", create, `{` + needed + `,"Handler":"` + huge + ` "}`, one + "Value '" + huge + " ' at 'handler' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"POST", create, `{` + needed + `,"Handler":"` + strings.Repeat("é", 128) + `"}`, ""},
		{"POST", create, `{` + needed + `,"MemorySize":127}`, one + "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		{"POST", create, `{` + needed + `,"MemorySize":40000}`, one + "Value '40000' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to 32768"},
		{"POST", create, `{` + needed + `,"MemorySize":128.0}`, ""},
		{"POST", create, `{` + needed + `,"PackageType":"Jar"}`, one + "Value 'Jar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Zip, Image]"},
		{"POST", create, `{` + needed + `,"Architectures":["x86"]}`, one + "Value '[x86]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{"POST", create, `{` + needed + `,"Architectures":["x86_64","arm64"]}`, one + "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		{"POST", create, `{` + needed + `,"Architectures":[]}`, one + "Value '[]' at 'architectures' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"POST", create, `{` + needed + `,"Architectures":[null]}`, one + "Value '[null]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{"POST", create, `{` + needed + `,"Environment":{"Variables":{"1A":"secret"}}}`, one + "Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]"},
		{"POST", create, `{` + needed + `,"Tags":{"k":"` + strings.Repeat("v", 257) + `"}}`, one + "Value '{k=" + strings.Repeat("v", 257) + "}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: " +
			"[Member must have length less than or equal to 256, Member must have length greater than or equal to 0, Member must satisfy regular expression pattern: ([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*), Member must not be null]"},
		{"POST", create, `{` + needed + `,"FileSystemConfigs":[{"Arn":"x"}]}`, "2 validation errors detected: Value 'x' at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member must satisfy regular expression pattern: " +
			"arn:aws[a-zA-Z-]*:elasticfilesystem:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:\\d{12}:access-point/fsap-[a-f0-9]{17}$|^arn:aws[-a-z]*:s3files:[0-9a-z-:]+:file-system/fs-[0-9a-f]{17,40}/access-point/fsap-[0-9a-f]{17,40}; " +
			"Value null at 'fileSystemConfigs.1.member.localMountPath' failed to satisfy constraint: Member must not be null"},
		{"POST", aliases, routing(`{"2":1,"3":0}`), ""},
		{"POST", aliases, routing(`{"2":2}`), fmt.Sprintf(weights, "{2=2.0}", weight)},
		{"POST", aliases, routing(`{"2":-0.25}`), fmt.Sprintf(weights, "{2=-0.25}", weight)},
		{"POST", aliases, routing(`{"$LATEST":0.5}`), fmt.Sprintf(weights, "{$LATEST=0.5}", version)},
		{"PUT", "/2024-08-31/functions/f/recursion-config", `{"RecursiveLoop":"x"}`, one + "Value 'x' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value set: [Terminate, Allow]"},
		{"GET", create + "?MaxItems=0", "", one + "Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"POST", "/2021-10-31/functions/f/url", `{"AuthType":"NONE","InvokeMode":"x"}`, one + "Value 'x' at 'invokeMode' failed to satisfy constraint: Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]"},
		{"GET", create + "?FunctionVersion=SOME", "", one + "Value 'SOME' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"},
		{"GET", create + "/f?Qualifier=" + long, "", one + "Value '" + long + "' at 'qualifier' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"GET", create + "/f%20g", "", one + "Value 'f g' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: " +
			"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)(:(\\$LATEST(\\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"},
		{"DELETE", create + "/f/aliases/123", "", one + "Value '123' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"},
		{"DELETE", create + "/f/aliases/123a", "", ""},
		{"DELETE", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af?tagKeys=a&tagKeys=b", "", ""},
		{"DELETE", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af", "", one + "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"},
		{"GET", "/2018-10-31/layers?find=LayerVersion", "", one + "Value null at 'arn' failed to satisfy constraint: Member must not be null"},
	} {
		*reached = false
		w := call(m, tc.method, tc.target, tc.body)
		if tc.message == "" {
			if w.Code >= 300 || !*reached {
				t.Errorf("%s %s %s: refused: %s", tc.method, tc.target, tc.body, w.Body)
			}
			continue
		}
		kind, message := answerOf(t, w)
		if diff := cmp.Diff(tc.message, message); diff != "" || w.Code != 400 || kind != "ValidationException" || *reached {
			t.Errorf("%s %s %s: %d %s (-want +got)\n%s", tc.method, tc.target, tc.body, w.Code, kind, diff)
		}
	}
}

// TestSerializationMessages has AWS's words for bodies of the wrong form.
func TestSerializationMessages(t *testing.T) {
	m, reached := accepting()
	for body, want := range map[string]string{
		`{"MemorySize":"128"}`:               "STRING_VALUE can not be converted to an Integer",
		`{"MemorySize":true}`:                "TRUE_VALUE can not be converted to an Integer",
		`{"MemorySize":1.5}`:                 "NUMBER_VALUE can not be converted to an Integer",
		`{"MemorySize":3000000000}`:          "NUMBER_VALUE can not be converted to an Integer",
		`{"MemorySize":1e400}`:               "NUMBER_VALUE can not be converted to an Integer",
		`{"Description":1}`:                  "NUMBER_VALUE can not be converted to a String",
		`{"Description":{}}`:                 "Start of structure or map found where not expected.",
		`{"Description":[]}`:                 "Start of list found where not expected",
		`{"Publish":"true"}`:                 "STRING_VALUE can not be converted to a Boolean",
		`{"Code":{"ZipFile":1}}`:             "NUMBER_VALUE can not be converted to a ByteBuffer",
		`{"Code":{"ZipFile":"!"}}`:           "The value at 'code.zipFile' is not valid base64",
		`{"Code":[]}`:                        "Start of list found where not expected",
		`{"Code":"x"}`:                       "Expected structure or map or null",
		`{"Layers":{}}`:                      "Start of structure or map found where not expected.",
		`{"Layers":"x"}`:                     "Expected list or null",
		`{"Layers":[1]}`:                     "NUMBER_VALUE can not be converted to a String",
		`{"Tags":[]}`:                        "Start of list found where not expected",
		`{"Tags":7}`:                         "Expected map or null",
		`{"Tags":{"a":false}}`:               "FALSE_VALUE can not be converted to a String",
		`[]`:                                 "Start of list found where not expected",
		`"x"`:                                "Expected structure or map or null",
		`{`:                                  "Could not parse request body into json: Unexpected end-of-input at offset 1",
		`{"a":1}x`:                           "Could not parse request body into json: Unexpected character ('x') at offset 7",
		`{"a" 1}`:                            "Could not parse request body into json: Unexpected character ('1') at offset 5",
		`{"a":tru}`:                          "Could not parse request body into json: Unexpected character ('t') at offset 5",
		"{\"a\":\"\xff\"}":                   "Could not parse request body into json: Invalid UTF-8 at offset 7",
		"{\"a\":\"\n\"}":                     "Could not parse request body into json: Illegal unquoted character at offset 6",
		strings.Repeat(`{"a":`, 80):          "Could not parse request body into json: Nesting is too deep at offset 325",
		strings.Repeat(`{"VpcConfig":`, 5e4): "Could not parse request body into json: Nesting is too deep at offset",
	} {
		w := call(m, "POST", "/2015-03-31/functions", body)
		kind, message := answerOf(t, w)
		if w.Code != 400 || kind != "SerializationException" || !strings.HasPrefix(message, want) || *reached {
			t.Errorf("%.60s: %d %s: %s, want %s", body, w.Code, kind, message, want)
		}
	}
	w := call(m, "GET", "/2015-03-31/functions?MaxItems=x", "")
	if kind, message := answerOf(t, w); kind != "SerializationException" || message != "STRING_VALUE can not be converted to an Integer" {
		t.Errorf("%s: %s", kind, message)
	}
}

// badValues are JSON values that at least one kind of member refuses.
func badValues() []string {
	return []string{`null`, `true`, `-7`, `1e99`, `1.5`, `"!\u0000é "`, `"` + strings.Repeat("x", 30000) + `"`, `[]`, `[null]`, `[[]]`, `[{}]`, `{}`, `{"":null}`, `{"!":{}}`, `{"a":[1]}`}
}

// TestNegativeMatrix sends to every operation: no labels worth the name, too
// long ones, each member of each type. No answer is a 5xx, and no label that
// breaks a pattern reaches the operation.
func TestNegativeMatrix(t *testing.T) {
	m, reached := accepting()
	inputs := mountAll(openMux(), nil)
	checked := 0
	probe := func(op *operation, label, query, body string, headers ...string) *httptest.ResponseRecorder {
		path, literal, _ := strings.Cut(op.uri, "?")
		for _, name := range op.labels {
			path = strings.Replace(path, "{"+name+"}", url.PathEscape(label), 1)
		}
		*reached = false
		checked++
		w := call(m, op.method, path+"?"+literal+"&"+query, body, headers...)
		if w.Code == 404 && label == "" {
			return w // is the path of another resource
		}
		if w.Code >= 500 || w.Code < 200 || w.Code >= 300 && w.Code != 400 {
			t.Errorf("%s, label %.20s, query %.40s, body %.60s: %d %s", op.name, label, query, body, w.Code, w.Body)
		}
		if w.Code == 400 {
			if kind, message := answerOf(t, w); *reached || message == "" || kind != "ValidationException" && kind != "SerializationException" {
				t.Errorf("%s: %s: %q, reached %t", op.name, kind, message, *reached)
			}
		}
		return w
	}
	for _, op := range m.ops {
		p := m.codec.rootPlan(inputs[op.name])
		for _, label := range []string{"", "! !", strings.Repeat("a", 20000)} {
			w := probe(op, label, "", "{}")
			constrained := slices.ContainsFunc(p.fields, func(f field) bool {
				return f.place == inLabel && (f.kind == kindLong || f.check != nil && (f.check.Pattern != "" || f.check.HasMax))
			})
			if constrained && label != "" && w.Code != 400 {
				t.Errorf("%s: label %.20q was accepted", op.name, label)
			}
		}
		for i := range p.fields {
			for _, value := range badValues() {
				switch f := &p.fields[i]; f.place {
				case inQuery:
					probe(op, "f", f.wire+"="+url.QueryEscape(value), "{}")
				case inHeader:
					probe(op, "f", "", "{}", f.wire, url.QueryEscape(value))
				case inPayload:
					probe(op, "f", "", value)
				case inBody:
					probe(op, "f", "", `{"`+f.wire+`":`+value+`}`)
					for j := range p.byName[f.wire].below() {
						probe(op, "f", "", `{"`+f.wire+`":{"`+j+`":`+value+`}}`)
					}
				}
			}
		}
	}
	if checked < 5000 {
		t.Errorf("only %d requests", checked)
	}
}

// below yields the members of a structure.
func (f *field) below() func(func(string) bool) {
	return func(yield func(string) bool) {
		p := f.plan
		if p.kind == kindStruct && p.elem != nil {
			p = p.elem
		}
		for name := range p.byName {
			if !yield(name) {
				return
			}
		}
	}
}

// TestRulesFitTheSDK: the table is of another source than the schemas. Each
// structure and shape in it that the SDK knows is used; no input of the SDK is
// without its requirements.
func TestRulesFitTheSDK(t *testing.T) {
	m, _ := accepting()
	for _, op := range m.ops {
		for _, label := range op.labels {
			if !strings.Contains(" "+m.codec.required[inputShape(m, op.name)]+" ", " "+label+" ") {
				t.Errorf("%s: the table does not require the label %s of %s", op.name, label, inputShape(m, op.name))
			}
		}
	}
	for shape, members := range m.codec.required {
		for key, p := range m.codec.structs {
			if key.shape != shape {
				continue
			}
			for name := range strings.SplitSeq(members, " ") {
				if !slices.ContainsFunc(p.fields, func(f field) bool { return f.required && strings.EqualFold(f.path, name) }) {
					t.Errorf("%s: the SDK has no member %s", shape, name)
				}
			}
		}
	}
}

// inputShape names the shape of an operation's input.
func inputShape(m *Mux, op string) string {
	for key := range m.codec.structs {
		if key.typ.Name() == op+"Input" {
			return key.shape
		}
	}
	return ""
}

// TestSimpleNames: what the shortcut accepts, the regular expression accepts.
func TestSimpleNames(t *testing.T) {
	m, _ := accepting()
	shapes := 0
	for name, c := range m.codec.checks {
		if c == nil || !c.names {
			continue
		}
		shapes++
		rapid.Check(t, func(t *rapid.T) {
			s := rapid.StringMatching(`[a-zA-Z0-9_:.-]{0,70}`).Draw(t, "name")
			if simpleName(s) && !c.satisfies(s) {
				t.Fatalf("%s: %q", name, s)
			}
		})
	}
	if shapes < 3 {
		t.Errorf("the shortcut is taken for %d shapes", shapes)
	}
}

// TestRawHandler: an operation that is mounted raw has the same checks for
// what is not in the body, and the parts of the request at hand.
func TestRawHandler(t *testing.T) {
	m := openMux()
	HandleRaw[lambda.InvokeInput](m, func(w http.ResponseWriter, r *Request) error {
		qualifier, ok := r.Query("Qualifier")
		w.WriteHeader(202)
		_, err := fmt.Fprintf(w, "%s %s %s %t %s %s %s", r.Operation, r.Label("FunctionName"), qualifier, ok, r.Header("X-Amz-Log-Type"), r.Body, r.Label("Other"))
		return err
	})
	w := call(m, "POST", "/2015-03-31/functions/f%3Aprod/invocations?Qualifier=%24LATEST", "payload", "X-Amz-Log-Type", "Tail")
	if w.Code != 202 || w.Body.String() != "Invoke f:prod $LATEST true Tail payload " {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, tc := range []struct{ target, header, value, want string }{
		{"/2015-03-31/functions/f/invocations", "X-Amz-Log-Type", "All", "'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]"},
		{"/2015-03-31/functions/f/invocations?Qualifier=a%20b", "", "", "'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern"},
		{"/2015-03-31/functions/f!/invocations", "", "", "'functionName' failed"},
	} {
		w := call(m, "POST", tc.target, "", tc.header, tc.value)
		if _, message := answerOf(t, w); w.Code != 400 || !strings.Contains(message, tc.want) {
			t.Errorf("%s: %d %s", tc.target, w.Code, w.Body)
		}
	}
}

// TestRewrittenPatterns: patterns that Go cannot say mean the same in their
// other form.
func TestRewrittenPatterns(t *testing.T) {
	m, _ := accepting()
	digits := regexp.MustCompile(`^[0-9]+$`)
	word := regexp.MustCompile(`^[0-9a-zA-Z_-]+$`)
	for shape, want := range map[string]func(string) bool{
		"Alias":                func(s string) bool { return word.MatchString(s) && !digits.MatchString(s) },
		"FunctionUrlQualifier": func(s string) bool { return word.MatchString(s) && !digits.MatchString(s) },
		"S3Bucket": func(s string) bool {
			return regexp.MustCompile(`^[0-9A-Za-z._-]*$`).MatchString(s) && !strings.HasSuffix(s, ".")
		},
		"CollectionName": func(s string) bool {
			return regexp.MustCompile(`^[_a-zA-Z0-9][^$]*$`).MatchString(s) && !strings.HasPrefix(s, "system.")
		},
		"FunctionUrlFunctionName": func(s string) bool {
			name, qualifier, qualified := strings.Cut(s, ":")
			return word.MatchString(name) && (!qualified || word.MatchString(qualifier) && !digits.MatchString(qualifier))
		},
	} {
		c := m.codec.checks[shape]
		if c == nil || c.Match == "" {
			t.Fatalf("%s has no rewritten pattern", shape)
		}
		rapid.Check(t, func(t *rapid.T) {
			s := rapid.StringMatching(`(system\.|12?|f:)?[a0_.-]{0,3}[$1.]?`).Draw(t, "text")
			if shape == "FunctionUrlFunctionName" && strings.HasPrefix(s, "12") {
				return // may be an account
			}
			if got := c.matches(s); got != want(s) {
				t.Fatalf("%s: %q: %t", shape, s, got)
			}
		})
	}
}
