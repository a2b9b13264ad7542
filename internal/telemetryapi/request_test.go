package telemetryapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	httpDest = `"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4243/path?q=1"}`
	tcpDest  = `"destination":{"protocol":"TCP","port":4243}`
	allTypes = `"types":["platform","function","extension"]`
)

func TestParseRequestAccepts(t *testing.T) {
	everything := streamPlatform | streamFunction | streamExtension
	all := []string{"platform", "function", "extension"}
	base := settings{
		schema: telemetry202207, streams: everything, types: all, method: "POST",
		to: destination{port: 4243, target: "/path?q=1"}, host: "sandbox.localdomain:4243",
		timeout: time.Second, maxBytes: 262144, maxItems: 10000,
	}
	with := func(change func(*settings)) settings {
		s := base
		change(&s)
		return s
	}
	tests := []struct {
		name string
		api  API
		body string
		want settings
	}{
		{"defaults", Telemetry, `{"schemaVersion":"2022-07-01",` + httpDest + `,` + allTypes + `}`, base},
		{"2022-12-13", Telemetry, `{"schemaVersion":"2022-12-13",` + httpDest + `,` + allTypes + `}`, with(func(s *settings) { s.schema = telemetry202212 })},
		{"2025-01-29", Telemetry, `{"schemaVersion":"2025-01-29",` + httpDest + `,` + allTypes + `}`, with(func(s *settings) { s.schema = telemetry2025 })},
		{"logs by default", Logs, `{` + httpDest + `,` + allTypes + `}`, with(func(s *settings) { s.api, s.schema = Logs, logs2020 })},
		{"logs 2020-08-15", Logs, `{"schemaVersion":"2020-08-15",` + httpDest + `,` + allTypes + `}`, with(func(s *settings) { s.api, s.schema = Logs, logs2020 })},
		{"logs 2021-03-18", Logs, `{"schemaVersion":"2021-03-18",` + httpDest + `,` + allTypes + `}`, with(func(s *settings) { s.api, s.schema = Logs, logs2021 })},
		{"nulls", Telemetry, `{"schemaVersion":"2022-07-01","buffering":null,` + httpDest + `,` + allTypes + `}`, base},
		{"unknown members", Telemetry, `{"schemaVersion":"2022-07-01","more":[1],"buffering":{"x":"y"},` + httpDest + `,` + allTypes + `}`, base},
		{"least buffering", Telemetry, `{"schemaVersion":"2022-07-01","buffering":{"timeoutMs":25,"maxBytes":262144,"maxItems":1000},` + httpDest + `,` + allTypes + `}`,
			with(func(s *settings) { s.timeout, s.maxItems = 25*time.Millisecond, 1000 })},
		{"most buffering", Telemetry, `{"schemaVersion":"2022-07-01","buffering":{"timeoutMs":30000,"maxBytes":1048576,"maxItems":10000},` + httpDest + `,` + allTypes + `}`,
			with(func(s *settings) { s.timeout, s.maxBytes = 30*time.Second, 1<<20 })},
		{"one type, PUT, sandbox, no path", Logs, `{"destination":{"protocol":"HTTP","URI":"http://sandbox:80","method":"PUT","encoding":"JSON"},"types":["function"]}`,
			with(func(s *settings) {
				s.api, s.schema, s.streams, s.types, s.method = Logs, logs2020, streamFunction, []string{"function"}, "PUT"
				s.to, s.host = destination{port: 80, target: "/"}, "sandbox:80"
			})},
		{"host in capitals", Telemetry, `{"schemaVersion":"2022-07-01","destination":{"protocol":"HTTP","URI":"HTTP://SANDBOX.localdomain:4243/path?q=1"},` + allTypes + `}`,
			with(func(s *settings) { s.host = "SANDBOX.localdomain:4243" })},
		{"path is escaped", Telemetry, `{"schemaVersion":"2022-07-01","destination":{"protocol":"HTTP","URI":"http://sandbox:1/a b\u00e9#frag"},` + allTypes + `}`,
			with(func(s *settings) { s.to, s.host = destination{port: 1, target: "/a%20b%C3%A9"}, "sandbox:1" })},
		{"TCP", Telemetry, `{"schemaVersion":"2022-07-01",` + tcpDest + `,` + allTypes + `}`,
			with(func(s *settings) { s.to, s.host = destination{tcp: true, port: 4243}, "" })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, no := parseRequest(test.api, []byte(test.body))
			if no != nil {
				t.Fatalf("refused: %+v", *no)
			}
			if !got.equal(&test.want) || got.streams != test.want.streams {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	v := `"schemaVersion":"2022-07-01",`
	buffering := func(name string, n any) string {
		return fmt.Sprintf(`{%s%s,%s,"buffering":{"%s":%v}}`, v, httpDest, allTypes, name, n)
	}
	uri := func(uri string) string {
		return `{` + v + `"destination":{"protocol":"HTTP","URI":"` + uri + `"},` + allTypes + `}`
	}
	const (
		invalid  = "ValidationError"
		broken   = "Telemetry.DeserializationError"
		outside  = "Telemetry.AccessDenied"
		hostText = "Telemetry is delivered to http://sandbox.localdomain and http://sandbox only"
		unread   = "Could not read the subscription: "
	)
	tests := []struct{ name, body, kind, message string }{
		{"empty", ``, broken, unread + "the request should be a JSON object"},
		{"no JSON", `{`, broken, unread + "the request should be a JSON object"},
		{"array", `[]`, broken, unread + "the request should be a JSON object"},
		{"null", `null`, broken, unread + "the request should be a JSON object"},
		{"two values", `{} {}`, broken, unread + "the request should be a JSON object"},
		{"nothing", `{}`, invalid, "schemaVersion should be provided; destination should be provided; types should not be empty"},
		{"AWS's example", `{` + v + `"destination":{"protocol":"HTTP","URI":"http://sandbox"},"types":[]}`, invalid, "URI port is not provided; types should not be empty"},
		{"names in other case", `{"SchemaVersion":"2022-07-01","Destination":{},"Types":["platform"]}`, invalid, "schemaVersion should be provided; destination should be provided; types should not be empty"},
		{"no schema", `{` + httpDest + `,` + allTypes + `}`, invalid, "schemaVersion should be provided"},
		{"schema of the other API", `{"schemaVersion":"2021-03-18",` + httpDest + `,` + allTypes + `}`, invalid,
			`schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29, not "2021-03-18"`},
		{"schema is a number", `{"schemaVersion":1,` + httpDest + `,` + allTypes + `}`, broken, unread + "schemaVersion should be a string"},
		{"destination is a string", `{` + v + `"destination":"http://sandbox:1",` + allTypes + `}`, broken, unread + "destination should be a JSON object"},
		{"no protocol", `{` + v + `"destination":{"URI":"http://sandbox:1"},` + allTypes + `}`, invalid, "protocol should be provided"},
		{"protocol", `{` + v + `"destination":{"protocol":"UDP"},` + allTypes + `}`, invalid, `protocol should be HTTP or TCP, not "UDP"`},
		{"no URI", `{` + v + `"destination":{"protocol":"HTTP","port":1},` + allTypes + `}`, invalid, "URI is not provided"},
		{"URI is no URI", uri("http://[::1"), invalid, "URI is not valid"},
		{"URI without host", uri("http://:80/"), invalid, "URI is not valid"},
		{"URI with user", uri("http://a:b@sandbox:80/"), invalid, "URI is not valid"},
		{"URI with line feed", uri(`http://sandbox:80/\r\nX: y`), invalid, "URI is not valid"},
		{"URI with blank in query", uri("http://sandbox:80/?a b"), invalid, "URI is not valid"},
		{"URI too long", uri("http://sandbox:80/" + strings.Repeat("x", maxURI)), invalid, "URI is not valid"},
		{"URI port 0", uri("http://sandbox:0/"), invalid, "port should be between 1 and 65535"},
		{"URI port too large", uri("http://sandbox:65536/"), invalid, "port should be between 1 and 65535"},
		{"URI port of the Runtime API", uri("http://sandbox:9001/"), invalid, "port 9001 is reserved"},
		{"other host", uri("http://example.com:80/"), outside, hostText},
		{"localhost", uri("http://localhost:80/"), outside, hostText},
		{"address", uri("http://127.0.0.1:80/"), outside, hostText},
		{"https", uri("https://sandbox:80/"), outside, hostText},
		{"other host and fault", `{` + v + `"destination":{"protocol":"HTTP","URI":"http://example.com:80"}}`, invalid, "types should not be empty"},
		{"TCP without port", `{` + v + `"destination":{"protocol":"TCP"},` + allTypes + `}`, invalid, "port is not provided"},
		{"TCP port of the Runtime API", `{` + v + `"destination":{"protocol":"TCP","port":9001},` + allTypes + `}`, invalid, "port 9001 is reserved"},
		{"TCP port negative", `{` + v + `"destination":{"protocol":"TCP","port":-1},` + allTypes + `}`, invalid, "port should be between 1 and 65535"},
		{"TCP port is a string", `{` + v + `"destination":{"protocol":"TCP","port":"1"},` + allTypes + `}`, broken, unread + "port should be an integer"},
		{"method", `{` + v + `"destination":{"protocol":"TCP","port":1,"method":"GET"},` + allTypes + `}`, invalid, `method should be POST or PUT, not "GET"`},
		{"encoding", `{` + v + `"destination":{"protocol":"TCP","port":1,"encoding":"XML"},` + allTypes + `}`, invalid, `encoding should be JSON, not "XML"`},
		{"types is a string", `{` + v + httpDest + `,"types":"platform"}`, broken, unread + "types should be an array of strings"},
		{"types with null", `{` + v + httpDest + `,"types":["platform",null]}`, broken, unread + "types should be an array of strings"},
		{"unknown type", `{` + v + httpDest + `,"types":["platform","x"]}`, invalid, `types should be platform, function or extension, not "x"`},
		{"type twice", `{` + v + httpDest + `,"types":["platform","platform"]}`, invalid, "types should be unique"},
		{"timeoutMs below", buffering("timeoutMs", 24), invalid, "timeoutMs should be between 25 and 30000"},
		{"timeoutMs above", buffering("timeoutMs", 30001), invalid, "timeoutMs should be between 25 and 30000"},
		{"maxBytes below", buffering("maxBytes", 262143), invalid, "maxBytes should be between 262144 and 1048576"},
		{"maxBytes above", buffering("maxBytes", 1048577), invalid, "maxBytes should be between 262144 and 1048576"},
		{"maxItems below", buffering("maxItems", 999), invalid, "maxItems should be between 1000 and 10000"},
		{"maxItems above", buffering("maxItems", 10001), invalid, "maxItems should be between 1000 and 10000"},
		{"fraction", buffering("maxItems", 1000.5), broken, unread + "maxItems should be an integer"},
		{"beyond integers", buffering("maxItems", "1e99"), broken, unread + "maxItems should be an integer"},
		{"all at once", `{"schemaVersion":"1","destination":{"protocol":"HTTP","URI":"http://sandbox"},"buffering":{"timeoutMs":1,"maxBytes":1,"maxItems":1}}`, invalid,
			`schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29, not "1"; URI port is not provided; types should not be empty; ` +
				"timeoutMs should be between 25 and 30000; maxBytes should be between 262144 and 1048576; maxItems should be between 1000 and 10000"},
		{"long values are cut", `{"schemaVersion":"` + strings.Repeat("y", 1000) + `",` + httpDest + `,` + allTypes + `}`, invalid,
			`schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29, not "` + strings.Repeat("y", maxEcho) + `..."`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, no := parseRequest(Telemetry, []byte(test.body))
			if no == nil {
				t.Fatal("accepted")
			}
			checkAnswer(t, no.answer(Telemetry), map[bool]int{true: 403, false: 400}[test.kind == outside], test.kind, test.message)
			if logs := no.answer(Logs); !strings.Contains(string(logs.Body), `"errorType":"Logs.`) {
				t.Errorf("the Logs API says %s", logs.Body)
			}
		})
	}
}

func checkAnswer(t *testing.T, got Answer, status int, kind, message string) {
	t.Helper()
	var body struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(got.Body, &body); err != nil {
		t.Fatalf("answer %q: %v", got.Body, err)
	}
	if got.Status != status || body.ErrorType != kind || message != "" && body.ErrorMessage != message {
		t.Errorf("got  %d %s %q\nwant %d %s %q", got.Status, body.ErrorType, body.ErrorMessage, status, kind, message)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":"2022-07-01",` + httpDest + `,` + allTypes + `,"buffering":{"timeoutMs":25}}`))
	f.Add([]byte(`{` + tcpDest + `,"types":["function"]}`))
	f.Add([]byte(`{"destination":{"protocol":"HTTP","URI":"http://sandbox:1\u0000"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, api := range []API{Telemetry, Logs} {
			set, no := parseRequest(api, body)
			if no != nil {
				if a := no.answer(api); a.Status < 400 || !json.Valid(a.Body) {
					t.Fatalf("answer %d %q", a.Status, a.Body)
				}
				continue
			}
			if set.streams == 0 || set.to.port < 1 || set.to.port > 65535 || set.to.port == runtimeAPIPort ||
				set.timeout < 25*time.Millisecond || set.maxBytes < minMaxBytes || set.maxItems < minMaxItems {
				t.Fatalf("accepted %+v", set)
			}
			if !set.to.tcp {
				head := string(appendRequest(nil, &set, 2))
				if strings.Count(head, "\r\n") != 5 || strings.Count(head, "\n") != 5 || !strings.HasPrefix(head, set.method+" ") {
					t.Fatalf("request head %q", head)
				}
			}
		}
	})
}
