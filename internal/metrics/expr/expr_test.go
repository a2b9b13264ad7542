package expr

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// line makes a series of the minutes from 0; NaN means that there is no
// datapoint.
func line(label string, values ...float64) Series {
	s := Series{Label: label, Period: 60}
	for i, v := range values {
		if !math.IsNaN(v) {
			s.Points = append(s.Points, Point{int64(i) * 60, v})
		}
	}
	return s
}

func testEnv() *Env {
	no := math.NaN()
	all := map[string]Series{
		"m1": line("one", 1, 2, 3, 4),
		"m2": line("two", 10, no, 30, 0),
		"e":  line("none"),
	}
	budget := 100_000
	return &Env{
		Lookup: func(id string) (Value, error) {
			if s, ok := all[id]; ok {
				return series(s), nil
			}
			return Value{}, fault("undefined variable %s", id)
		},
		Metrics: func(part string) ([]Series, error) {
			var out []Series
			for _, id := range []string{"m1", "m2"} {
				if strings.Contains(id, part) {
					out = append(out, all[id])
				}
			}
			return out, nil
		},
		Search: func(q *Search, stat string, period int64) ([]Series, error) {
			return []Series{line(fmt.Sprintf("%s %d", stat, period), 7)}, nil
		},
		Start: 0, End: 240, Period: 60, Budget: &budget,
	}
}

// write tells a value in one line: a datapoint as minute:value.
func write(v Value) string {
	switch v.Kind {
	case Scalar:
		return fmt.Sprint(v.Number)
	case Text:
		return v.Text
	}
	var lists []string
	for _, s := range v.List {
		var points []string
		for _, p := range s.Points {
			points = append(points, fmt.Sprintf("%d:%.4g", p.Time/60, p.Value))
		}
		lists = append(lists, strings.Join(points, " "))
	}
	if v.Kind == Array {
		return "[" + strings.Join(lists, ", ") + "]"
	}
	return lists[0]
}

func TestEval(t *testing.T) {
	for source, want := range map[string]string{
		"1 + 2 * 3":                     "7",
		"(1 + 2) * 3":                   "9",
		"2 ^ 3 - 1":                     "7",
		"-2 ^ 2":                        "-4",
		"10 - 4 - 3":                    "3",
		"1.5e2 / .5":                    "300",
		"2e-1*10":                       "2",
		"1 < 2 && 2 < 1 || 3 == 3":      "1",
		"m1 + 1":                        "0:2 1:3 2:4 3:5",
		"1 - m1":                        "0:0 1:-1 2:-2 3:-3",
		"-m1":                           "0:-1 1:-2 2:-3 3:-4",
		"m1 / m2":                       "0:0.1 2:0.1",
		"m1 / 0":                        "",
		"m1 * m2":                       "0:10 2:90 3:0",
		"m1 > 2":                        "0:0 1:0 2:1 3:1",
		"m1 >= 2 AND m1 != 3":           "0:0 1:1 2:0 3:1",
		"m1 + e":                        "",
		"[m1, m2]":                      "[0:1 1:2 2:3 3:4, 0:10 2:30 3:0]",
		"[m1, [m2, e]] * 2":             "[0:2 1:4 2:6 3:8, 0:20 2:60 3:0, ]",
		"[m1, m2] - m1":                 "[0:0 1:0 2:0 3:0, 0:9 2:27 3:-4]",
		"m1 - [m2]":                     "[0:-9 2:-27 3:4]",
		"SUM(m1)":                       "10",
		"AVG(m1)":                       "2.5",
		"MIN(m2)":                       "0",
		"max(m2)":                       "30",
		"SUM([m1, m2])":                 "0:11 1:2 2:33 3:4",
		"AVG(METRICS())":                "0:5.5 1:2 2:16.5 3:2",
		"MAX(METRICS('m2'))":            "0:10 2:30 3:0",
		`MIN(METRICS("m"))`:             "0:1 1:2 2:3 3:0",
		"SUM(METRICS('zzz'))":           "",
		"FLOOR(STDDEV(m2))":             "12",
		"FILL(m2, 5)":                   "0:10 1:5 2:30 3:0",
		"FILL(m2, REPEAT)":              "0:10 1:10 2:30 3:0",
		"FILL(m2, LINEAR)":              "0:10 1:20 2:30 3:0",
		"FILL(e, 0)":                    "0:0 1:0 2:0 3:0",
		"FILL(e, REPEAT)":               "",
		"FILL(METRICS(), 0) + 1":        "[0:2 1:3 2:4 3:5, 0:11 1:1 2:31 3:1]",
		"RATE(m2)":                      "2:0.1667 3:-0.5",
		"DIFF(m2)":                      "2:20 3:-30",
		"DIFF_TIME(m2)":                 "2:120 3:60",
		"RUNNING_SUM(m1)":               "0:1 1:3 2:6 3:10",
		"IF(m1 > 2, m1, 0)":             "0:0 1:0 2:3 3:4",
		"IF(m1 > 2, m1)":                "2:3 3:4",
		"IF(m1 > 0, m2, m1)":            "0:10 2:30 3:0",
		"IF(SUM(m1) > 9, m1, m2)":       "0:1 1:2 2:3 3:4",
		"IF(0, 1, 2)":                   "2",
		"ABS(-m1)":                      "0:1 1:2 2:3 3:4",
		"CEIL(m1 / 2) + FLOOR(1.5)":     "0:2 1:2 2:3 3:3",
		"LOG10(1000) + LOG(1)":          "3",
		"LOG(m2)":                       "0:2.303 2:3.401",
		"PERIOD(m1)":                    "60",
		"m1 / PERIOD(m1)":               "0:0.01667 1:0.03333 2:0.05 3:0.06667",
		"METRIC_COUNT(METRICS())":       "2",
		"DATAPOINT_COUNT([m1, m2])":     "7",
		"REMOVE_EMPTY([e, m2])":         "[0:10 2:30 3:0]",
		"FIRST([m2, m1])":               "0:10 2:30 3:0",
		"LAST([m2, m1])":                "0:1 1:2 2:3 3:4",
		"FIRST(REMOVE_EMPTY([e]))":      "",
		"SLICE([m1, m2, e], 1)":         "0:10 2:30 3:0",
		"SLICE([m1, m2, e], 0, 1)":      "[0:1 1:2 2:3 3:4]",
		"SLICE([m1], 7)":                "",
		"SORT([m1, m2], MAX, DESC, 1)":  "[0:10 2:30 3:0]",
		"SORT(METRICS(), SUM, ASC)":     "[0:1 1:2 2:3 3:4, 0:10 2:30 3:0]",
		"TIME_SERIES(3)":                "0:3 1:3 2:3 3:3",
		"MINUTE(m1) + HOUR(m1)":         "0:0 1:1 2:2 3:3",
		"DAY(m1)":                       "0:4 1:4 2:4 3:4",
		"YEAR(e)":                       "",
		"EPOCH(m1)":                     "0:0 1:60 2:120 3:180",
		"MONTH(m1) + DATE(m1)":          "0:2 1:2 2:2 3:2",
		"SEARCH('{N,D} x', 'Sum', 300)": "[0:7]",
		"SUM(SEARCH('x', 'p99'))":       "0:7",
		" \n m1 ":                       "0:1 1:2 2:3 3:4",
	} {
		got, err := Eval(source, testEnv())
		if err != nil || write(got) != want {
			t.Errorf("%s is %s, %v; want %s", source, write(got), err, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	for source, says := range map[string]string{
		"":                                       "too early",
		"1 +":                                    "too early",
		"(1":                                     "too early",
		"1)":                                     `")"`,
		"1 2":                                    `"2"`,
		"m1 $ 2":                                 `"$"`,
		"1.2.3":                                  "not a number",
		"'abc":                                   "does not end",
		"[m1, ]":                                 `"]"`,
		"[1]":                                    "a scalar",
		"[m1] + [m2]":                            "unsupported operand",
		"'x' + 1":                                "unsupported operand",
		"-'x'":                                   "a string",
		"zzz + 1":                                "undefined variable zzz",
		"SUM()":                                  "arguments",
		"SUM(1)":                                 "SUM",
		"IF(1)":                                  "arguments",
		"IF('x', 1, 2)":                          "IF",
		"IF(m1, [m1], 2)":                        "IF",
		"FILL(m1, m2)":                           "FILL",
		"FILL(m1, SOMETHING)":                    "FILL",
		"SORT([m1], MEDIAN, ASC)":                "SORT",
		"SLICE([m1], 0.5)":                       "SLICE",
		"METRICS(1)":                             "METRICS",
		"TIME_SERIES(m1)":                        "TIME_SERIES",
		"WOBBLE(m1)":                             "WOBBLE",
		"ANOMALY_DETECTION_BAND(m1, 2)":          "ANOMALY_DETECTION_BAND is not served",
		"SEARCH('{N', 'Sum')":                    "not closed",
		"SEARCH('', 'Sum')":                      "empty",
		"SEARCH('(a', 'Sum')":                    "not closed",
		"SEARCH('a OR', 'Sum')":                  "missing",
		"SEARCH('NOT', 'Sum')":                   "NOT",
		"SEARCH('a)', 'Sum')":                    `")"`,
		"SEARCH(':aws.AccountId=\"1\"', 'Sum')":  ":aws.AccountId",
		"SEARCH('a', 5)":                         "SEARCH",
		"SEARCH('a', 'Sum', -1)":                 "period",
		"m1 + " + strings.Repeat("1 + ", 600):    "longer than",
		strings.Repeat("(", 1500) + "1":          "too early",
		"1 + " + strings.Repeat("-", 1800) + "x": "undefined variable x",
	} {
		v, err := Eval(source, testEnv())
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s is %s, %v; want an error with %q", source, write(v), err, says)
		}
	}
}

func TestWorkIsBounded(t *testing.T) {
	env := testEnv()
	env.End = 60 * (maxDense + 2)
	if _, err := Eval("FILL(m1, 0)", env); err == nil {
		t.Error("a year of minutes is filled")
	}
	if _, err := Eval("TIME_SERIES(1)", env); err == nil {
		t.Error("a year of minutes is made")
	}
	env.End = 60 * maxDense
	if _, err := Eval(strings.Repeat("FILL(m1,0)+", 20)+"1", env); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("20 times 70 days of minutes: %v", err)
	}
}

func TestSearch(t *testing.T) {
	m := &Metric{Namespace: "AWS/Lambda", Name: "PostRuntimeExtensionsDuration", Dimensions: map[string]string{"FunctionName": "my-api_handler", "Resource": "my-api:live"}}
	for search, want := range map[string]bool{
		"{AWS/Lambda,FunctionName,Resource}":                true,
		"{AWS/Lambda, Resource, FunctionName} Duration":     true,
		"{AWS/Lambda,FunctionName}":                         false,
		"{AWS/Lambda}":                                      false,
		"{Other,FunctionName,Resource}":                     false,
		`{"AWS/Lambda","FunctionName","Resource"} duration`: true,
		"duration":          true,
		"Durations":         false,
		"post duration":     true,
		"post AND duration": true,
		"zzz OR runtime":    true,
		"zzz OR yyy":        false,
		"NOT zzz":           true,
		"runtime NOT api":   false,
		`MetricName="PostRuntimeExtensionsDuration"`: true,
		`MetricName="Duration"`:                      false,
		`MetricName=Duration`:                        true,
		`FunctionName="my-api_handler"`:              true,
		`FunctionName=("a" OR "my-api_handler")`:     true,
		`FunctionName=("a" OR "b")`:                  false,
		`Zone="a"`:                                   false,
		`"my-api:live"`:                              true,
		`"my-api"`:                                   false,
		"(zzz OR live) (handler OR yyy)":             true,
		`Namespace="AWS/Lambda" AND NOT (FunctionName=other OR live=x)`: true,
		`"MetricName"="PostRuntimeExtensionsDuration"`:                  false,
	} {
		q, err := ParseSearch(search)
		if err != nil {
			t.Errorf("%s: %v", search, err)
			continue
		}
		if got := q.Matches(m); got != want {
			t.Errorf("%s finds it: %v", search, got)
		}
	}
}

func TestLabels(t *testing.T) {
	got, err := Eval("[m1 * 2, m2]", testEnv())
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, s := range got.List {
		labels = append(labels, s.Label)
	}
	if want := []string{"one", "two"}; !cmp.Equal(labels, want) {
		t.Errorf("labels are %v, want %v", labels, want)
	}
}

func FuzzEval(f *testing.F) {
	for _, seed := range []string{"m1+m2", "SUM(FILL(METRICS(),0))/PERIOD(m1)", "IF(m1>2,m1)", "SORT([m1,m2],AVG,DESC,1)", `SEARCH('{a,b} c="d" OR (NOT e)','p9',60)`, "-2^2*((m1))", "SLICE(METRICS(), 0, 1e5)"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		begin := time.Now()
		v, err := Eval(source, testEnv())
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%q took %v", source, took)
		}
		if err != nil {
			return
		}
		for _, s := range v.List {
			for i, p := range s.Points {
				if !finite(p.Value) || i > 0 && s.Points[i-1].Time >= p.Time {
					t.Errorf("%q: datapoint %d is %+v", source, i, p)
				}
			}
		}
	})
}
