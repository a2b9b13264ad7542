package metrics

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/telemetry"
)

// emfTime is when the documents of these tests were written.
func emfTime() time.Time { return time.UnixMilli(1795176000000) }

// brief tells samples in one line each.
func brief(t *testing.T, line string) ([]string, error) {
	t.Helper()
	samples, err := parseEMF([]byte(line), emfTime())
	var out []string
	for _, s := range samples {
		if !s.Time.Equal(emfTime()) {
			t.Errorf("the time is %v", s.Time)
		}
		text := fmt.Sprintf("%s %s", s.Key.Namespace, s.Key.Name)
		for _, d := range s.Key.Dimensions {
			text += fmt.Sprintf(" %s=%s", d.Name, d.Value)
		}
		text += fmt.Sprintf(" %s n=%v sum=%v", s.Key.Unit, s.Point.Count, s.Point.Sum)
		if s.HighResolution {
			text += " high"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out, err
}

// emf makes a document of directives and members of the root.
func emf(directives, root string) string {
	if root != "" {
		root = "," + root
	}
	return `{"_aws":{"Timestamp":1795176000000,"CloudWatchMetrics":[` + directives + `]}` + root + `}`
}

func TestEMF(t *testing.T) {
	one := `{"Namespace":"App","Dimensions":[["Op"]],"Metrics":[{"Name":"time","Unit":"Milliseconds"}]}`
	tests := map[string]struct {
		line string
		want []string
		bad  bool
	}{
		"plain":          {emf(one, `"Op":"get","time":12.5`), []string{"App time Op=get Milliseconds n=1 sum=12.5"}, false},
		"array":          {emf(one, `"Op":"get","time":[1,2,3]`), []string{"App time Op=get Milliseconds n=3 sum=6"}, false},
		"behind a time":  {"2026-11-20T12:00:00.000Z\t6f8f7d26\tINFO\t" + emf(one, `"Op":"get","time":1`), []string{"App time Op=get Milliseconds n=1 sum=1"}, false},
		"with a newline": {emf(one, `"Op":"get","time":1`) + "\n", []string{"App time Op=get Milliseconds n=1 sum=1"}, false},
		"two sets": {emf(`{"Namespace":"App","Dimensions":[["Op","Zone"],[]],"Metrics":[{"Name":"n"},{"Name":"m","StorageResolution":1}]}`, `"Op":"get","Zone":"a","n":1,"m":2`),
			[]string{"App m None n=1 sum=2 high", "App m Op=get Zone=a None n=1 sum=2 high", "App n None n=1 sum=1", "App n Op=get Zone=a None n=1 sum=1"}, false},
		"two directives": {emf(one+`,{"Namespace":"Other","Dimensions":[[]],"Metrics":[{"Name":"time"}]}`, `"Op":"x","time":3`),
			[]string{"App time Op=x Milliseconds n=1 sum=3", "Other time None n=1 sum=3"}, false},
		"no sets":                    {emf(`{"Namespace":"App","Dimensions":[],"Metrics":[{"Name":"n"}]}`, `"n":1`), []string{"App n None n=1 sum=1"}, false},
		"no metrics":                 {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[]}`, ""), nil, false},
		"unknown members":            {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n","x":1}],"y":2}`, `"n":1,"z":{}`), []string{"App n None n=1 sum=1"}, false},
		"a dimension is missing":     {emf(one, `"time":1`), nil, true},
		"a dimension is no string":   {emf(one, `"Op":5,"time":1`), nil, true},
		"a dimension is empty":       {emf(one, `"Op":"","time":1`), nil, true},
		"a value is missing":         {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n"},{"Name":"m"}]}`, `"n":1`), []string{"App n None n=1 sum=1"}, true},
		"a value is null":            {emf(one, `"Op":"x","time":null`), nil, true},
		"a value is a string":        {emf(one, `"Op":"x","time":"1"`), nil, true},
		"a value is too great":       {emf(one, `"Op":"x","time":1e200`), nil, true},
		"an array is empty":          {emf(one, `"Op":"x","time":[]`), nil, true},
		"an array is too long":       {emf(one, `"Op":"x","time":[1`+strings.Repeat(",1", 100)+`]`), nil, true},
		"set of statistics":          {emf(one, `"Op":"x","time":{"Count":4,"Sum":10,"Min":1,"Max":5}`), []string{"App time Op=x Milliseconds n=4 sum=10"}, false},
		"histogram":                  {emf(one, `"Op":"x","time":{"Values":[1.1,3.3],"Counts":[3,1],"Count":4,"Sum":6.5,"Min":1,"Max":3.5}`), []string{"App time Op=x Milliseconds n=4 sum=6.5"}, false},
		"values with counts":         {emf(one, `"Op":"x","time":{"Values":[1,3],"Counts":[3,1]}`), []string{"App time Op=x Milliseconds n=4 sum=6"}, false},
		"values without counts":      {emf(one, `"Op":"x","time":{"Values":[1,3]}`), []string{"App time Op=x Milliseconds n=2 sum=4"}, false},
		"a histogram too great":      {emf(one, `"Op":"x","time":{"Values":[1e100],"Counts":[1e100]}`), nil, true},
		"part of a set":              {emf(one, `"Op":"x","time":{"Count":4,"Sum":10}`), nil, true},
		"a set that cannot be":       {emf(one, `"Op":"x","time":{"Count":4,"Sum":10,"Min":5,"Max":1}`), nil, true},
		"an empty set":               {emf(one, `"Op":"x","time":{"Count":0,"Sum":0,"Min":0,"Max":0}`), nil, true},
		"counts of other values":     {emf(one, `"Op":"x","time":{"Values":[1,3],"Counts":[3]}`), nil, true},
		"a negative count":           {emf(one, `"Op":"x","time":{"Values":[1],"Counts":[-3]}`), nil, true},
		"a histogram of words":       {emf(one, `"Op":"x","time":{"Values":["a"]}`), nil, true},
		"a histogram is too long":    {emf(one, `"Op":"x","time":{"Values":[1`+strings.Repeat(",1", 100)+`]}`), nil, true},
		"an object of other things":  {emf(one, `"Op":"x","time":{"a":1}`), nil, true},
		"names are case-sensitive":   {`{"_aws":{"timestamp":1795176000000,"CloudWatchMetrics":[]}}`, nil, true},
		"bad unit":                   {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n","Unit":"Furlongs"}]}`, `"n":1`), nil, true},
		"bad resolution":             {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n","StorageResolution":5}]}`, `"n":1`), nil, true},
		"namespace of AWS":           {emf(`{"Namespace":"AWS/Lambda","Dimensions":[[]],"Metrics":[{"Name":"n"}]}`, `"n":1`), nil, true},
		"namespace is missing":       {emf(`{"Dimensions":[[]],"Metrics":[{"Name":"n"}]}`, `"n":1`), nil, true},
		"too old":                    {strings.Replace(emf(one, `"Op":"x","time":1`), "1795176", "1793966", 1), nil, true},
		"of the future":              {strings.Replace(emf(one, `"Op":"x","time":1`), "1795176", "1795184", 1), nil, true},
		"101 metrics":                {emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n"}`+strings.Repeat(`,{"Name":"n"}`, 100)+`]}`, `"n":1`), nil, true},
		"not JSON":                   {`{"_aws":`, nil, true},
		"in the middle of something": {`x{"_aws":{}}`, nil, true},
		"_aws is no object":          {`{"_aws":7}`, nil, true},
	}
	for name, test := range tests {
		got, err := brief(t, test.line)
		if (err != nil) != test.bad || !cmp.Equal(got, test.want) {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(test.want, got))
		}
	}
}

func TestEMFDimensionsAreBounded(t *testing.T) {
	for n, bad := range map[int]bool{30: false, 31: true} {
		names, root := []string{}, `"m":1`
		for i := range n {
			names = append(names, fmt.Sprint("d", i))
			root += fmt.Sprintf(`,"d%d":"x"`, i)
		}
		set, err := json.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		got, err := brief(t, emf(`{"Namespace":"App","Dimensions":[`+string(set)+`],"Metrics":[{"Name":"m"}]}`, root))
		if (err != nil) != bad || bad == (len(got) == 1) {
			t.Errorf("%d dimensions: %v, %v", n, got, err)
		}
	}
}

// A document that multiplies sets, metrics and directives is cut.
func TestEMFIsBounded(t *testing.T) {
	directive := `{"Namespace":"App","Dimensions":[["d"]` + strings.Repeat(`,["d"]`, 1000) + `],"Metrics":[{"Name":"m"}` + strings.Repeat(`,{"Name":"m"}`, 99) + `]}`
	begin := time.Now()
	samples, err := parseEMF([]byte(emf(directive+strings.Repeat(","+directive, 50), `"d":"x","m":[1`+strings.Repeat(",1", 99)+`]`)), emfTime())
	if err == nil || len(samples) > emfMaxSamples {
		t.Errorf("%d samples, %v", len(samples), err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestEMFFromLines(t *testing.T) {
	f := newFixture(t)
	document := strings.Replace(emf(`{"Namespace":"App","Dimensions":[["Op"]],"Metrics":[{"Name":"time"}]}`, `"Op":"get","time":12`), "1795176000000", fmt.Sprint(f.begin.UnixMilli()), 1)
	src := &telemetry.Source{Function: "f"}
	for _, line := range []telemetry.Line{
		{Text: []byte(document)},
		{Text: []byte(document), Extension: "agent"}, // not the function's
		{Text: []byte(`{"msg":"an ordinary line"}`)},
		{Text: []byte("")},
	} {
		line.Time = f.begin
		f.Sink().Line(src, line)
	}
	f.EMF([]byte(document), f.begin)
	f.EMF([]byte(`{"_aws":`), f.begin)
	p := f.stats(t, "App", "time", dims("Op", "get"))
	if p == nil || *p.Sum != 24 || *p.SampleCount != 2 {
		t.Errorf("got %+v", p)
	}
	if n := f.dropped()["emf_invalid"]; n != 1 {
		t.Errorf("%d invalid documents are counted", n)
	}
}

// The line's text is the caller's again after the call.
func TestEMFKeepsNoBuffer(t *testing.T) {
	f := newFixture(t)
	text := []byte(strings.Replace(emf(`{"Namespace":"App","Dimensions":[[]],"Metrics":[{"Name":"n"}]}`, `"n":1`), "1795176000000", fmt.Sprint(f.begin.UnixMilli()), 1))
	f.Sink().Line(&telemetry.Source{}, telemetry.Line{Time: f.begin, Text: text})
	clear(text)
	if p := f.stats(t, "App", "n", nil); p == nil || *p.Sum != 1 {
		t.Errorf("got %+v", p)
	}
}

func TestEMFQueueIsBounded(t *testing.T) {
	f := newFixture(t)
	line := []byte(`{"_aws":1}`)
	for range emfQueueLines + 10 {
		f.EMF(line, f.begin)
	}
	f.EMF(append([]byte(`{"_aws":"`), make([]byte, emfMaxBytes)...), f.begin)
	if n := f.dropped()["emf_queue_full"]; n != 11 {
		t.Errorf("%d lines were dropped, want 11", n)
	}
	f.drainEMF()
	for range 20 {
		f.EMF(append([]byte(`{"_aws":"`), make([]byte, emfMaxBytes-100)...), f.begin)
	}
	if f.emf.bytes > emfQueueBytes {
		t.Errorf("the queue holds %d bytes", f.emf.bytes)
	}
}

func FuzzEMF(f *testing.F) {
	f.Add(emf(`{"Namespace":"App","Dimensions":[["Op"],[]],"Metrics":[{"Name":"time","Unit":"Milliseconds","StorageResolution":1}]}`, `"Op":"get","time":[1,2]`))
	f.Add("2026\tINFO\t" + emf(`{"Namespace":"App","Dimensions":[],"Metrics":[{"Name":"n"}]}`, `"n":1e3`))
	f.Add(`{"_aws":{"Timestamp":1795176000000,"CloudWatchMetrics":null}}`)
	f.Fuzz(func(t *testing.T, line string) {
		samples, _ := parseEMF([]byte(line), emfTime())
		if len(samples) > emfMaxSamples {
			t.Errorf("%d samples", len(samples))
		}
		for _, s := range samples {
			if s.Point.Count <= 0 || badNamespace(s.Key.Namespace) != "" || len(s.Key.Dimensions) > emfMaxDimensions || badValue(s.Point.Sum/200) {
				t.Errorf("a sample that PutMetricData would refuse: %+v", s)
			}
		}
	})
}

// The values of a histogram are those of its buckets, so that percentiles can
// be told; its least, greatest and sum are exact.
func TestEMFHistogram(t *testing.T) {
	f := newFixture(t)
	f.EMF([]byte(strings.Replace(emf(`{"Namespace":"Test","Dimensions":[[]],"Metrics":[{"Name":"h"}]}`, `"h":{"Values":[1.1,3.3],"Counts":[3,1],"Count":4,"Sum":6.5,"Min":1,"Max":3.2}`),
		"1795176000000", fmt.Sprint(f.begin.UnixMilli()), 1)), f.begin)
	if p := f.stats(t, "Test", "h", nil); p == nil || *p.Sum != 6.5 || *p.SampleCount != 4 || *p.Minimum != 1 || *p.Maximum != 3.2 {
		t.Errorf("%+v", p)
	}
	if p := f.stats(t, "Test", "h", nil, "p50", "p100"); p == nil || p.ExtendedStatistics["p50"] != 1.1 || p.ExtendedStatistics["p100"] != 3.2 {
		t.Errorf("%+v", p)
	}
}
