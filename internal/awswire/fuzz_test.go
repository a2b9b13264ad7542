package awswire

import (
	"context"
	"encoding/json"
	"math"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/go-cmp/cmp"
)

// FuzzDecode runs any body, path and query through CreateFunction and a few
// others: no 5xx, no panic; and what is accepted
// is the same again when it is written and read.
func FuzzDecode(f *testing.F) {
	f.Add("/2015-03-31/functions", "", `{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Code":{"ZipFile":"eA=="},"Tags":{"a":"b"},"Layers":[],"MemorySize":128,"Publish":true}`)
	f.Add("/2015-03-31/event-source-mappings/", "", `{"FunctionName":"f","StartingPositionTimestamp":1.5,"FilterCriteria":{"Filters":[{"Pattern":"{}"}]},"Queues":["q"]}`)
	f.Add("/2017-03-31/tags/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af", "tagKeys=a", `{"Tags":{"a":null}}`)
	f.Add("/2015-03-31/functions/f/aliases/%00", "a=%zz&Qualifier", `{"Name":"x","RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}`)
	f.Add("/2015-03-31/functions/%24LATEST/invocations", "Qualifier=1", `x`)
	m := openMux()
	var create *lambda.CreateFunctionInput
	mountAll(m, func(_ context.Context, in, _ any) error {
		create, _ = in.(*lambda.CreateFunctionInput)
		return nil
	})
	f.Fuzz(func(t *testing.T, path, query, body string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" || len(body) > 1<<12 {
			return
		}
		u.RawQuery = query
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL = u
			w := httptest.NewRecorder()
			create = nil
			m.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s %s: %d %s", method, u, w.Code, w.Body)
			}
			if create == nil || w.Code >= 300 {
				continue
			}
			p := m.codec.rootPlan(reflect.TypeFor[lambda.CreateFunctionInput]())
			again := new(lambda.CreateFunctionInput)
			text := appendValue(nil, p, reflect.ValueOf(create).Elem())
			d := &decoder{}
			if err := d.body(p, reflect.ValueOf(again).Elem(), text); err != nil {
				t.Fatalf("%s: written as %s: %v", body, text, err)
			}
			if diff := cmp.Diff(create, again, sameStructures()); diff != "" {
				t.Fatalf("%s: written as %s, read as (-first +second)\n%s", body, text, diff)
			}
		}
	})
}

// TestAppendString holds the string writer against encoding/json.
func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "\x00\x1f\"\\/\b\f\n\r\t\x7f", "é日\U0001F600\u2028<&>", "\xff\xc3", "a\xffb"} {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); back != want && strings.Count(back, "\uFFFD") == 0 {
			t.Errorf("%q: %q, want %q", s, back, want)
		}
	}
}

// TestNumbersAndTimes has the values that JSON cannot say or says oddly.
func TestNumbersAndTimes(t *testing.T) {
	for f, want := range map[float64]string{0: "0.0", 0.25: "0.25", 24: "24.0", -3: "-3.0", math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`, 1e300: "1e+300"} {
		if got := string(appendDouble(nil, f)); got != want {
			t.Errorf("%v: %s", f, got)
		}
	}
	if got := string(appendDouble(nil, math.NaN())); got != `"NaN"` {
		t.Errorf("NaN: %s", got)
	}
	at := epoch(1574119482.123)
	for form, want := range map[string]string{"": "1574119482.123", "epoch-seconds": "1574119482.123", "date-time": `"2019-11-18T23:24:42.123Z"`, "http-date": `"Mon, 18 Nov 2019 23:24:42 GMT"`} {
		if got := string(appendTime(nil, at, form)); got != want {
			t.Errorf("%s: %s", form, got)
		}
	}
	if got := string(appendTime(nil, epoch(1574119482), "")); got != "1574119482.0" {
		t.Errorf("a whole second: %s", got)
	}
	for form, text := range map[string]string{"": "2019-11-18T23:24:42.123Z", "date-time": "1574119482.123"} {
		if got, err := parseTime(text, form); err != nil || !got.Equal(at) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if got, err := parseTime("Mon, 18 Nov 2019 23:24:42 GMT", "http-date"); err != nil || got.Unix() != at.Unix() {
		t.Errorf("%v, %v", got, err)
	}
}
