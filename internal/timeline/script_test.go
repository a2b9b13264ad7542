package timeline

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

var update = flag.Bool("update", false, "rewrite the golden drawings")

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// script reads a file of testdata: one line per event.
//
//	12ms platform.start {...}          a record; "fatal" may precede its type
//	12ms step runtime ready: detail    one of firn's own records
//	12ms line [extension]              a line of output
//	12ms segment id parent end name [aws] [error|fault|throttle]
//	received 0ms                       when the request came
//	known name EVENTS                  an extension that is there already
func script(t testing.TB, text string) Input {
	in := Input{RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Function: "hello", Version: "$LATEST", Environment: "0a1b2c3d"}
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := scriptLine(&in, line); err != nil {
			t.Fatalf("line %d: %s: %v", n+1, line, err)
		}
	}
	return in
}

func scriptLine(in *Input, line string) error {
	first, rest, _ := strings.Cut(line, " ")
	words := strings.Fields(rest)
	switch first {
	case "received":
		at, err := time.ParseDuration(rest)
		in.Received = epoch().Add(at)
		return err
	case "known":
		in.Extensions = append(in.Extensions, lifecycle.Extension{Name: words[0], Events: strings.Split(words[1], ",")})
		return nil
	}
	d, err := time.ParseDuration(first)
	if err != nil {
		return err
	}
	at := epoch().Add(d)
	switch kind, body, _ := strings.Cut(rest, " "); kind {
	case "line":
		in.Lines = append(in.Lines, Line{Time: at, Extension: body})
	case "step":
		name, detail, _ := strings.Cut(body, ":")
		in.Records = append(in.Records, lifecycle.Phase{Stamp: lifecycle.Stamp{Time: at}, Name: name, Detail: strings.TrimSpace(detail)})
	case "segment":
		end, err := time.ParseDuration(words[3])
		if err != nil {
			return err
		}
		s := Segment{TraceID: "1-5759e988-bd862e3fe1be46a994272793", ID: words[1], ParentID: words[2], Name: words[4], Start: at, End: epoch().Add(end)}
		for _, w := range words[5:] {
			switch w {
			case "aws":
				s.Namespace = w
			case "error":
				s.Error = true
			case "throttle":
				s.Throttle = true
			case "fault":
				s.Fault = true
			}
		}
		in.Segments = append(in.Segments, s)
	default:
		fatal := kind == "fatal"
		if fatal {
			kind, body, _ = strings.Cut(body, " ")
		}
		rec, err := scriptRecord(kind, body, lifecycle.Stamp{Time: at}, fatal)
		if err != nil {
			return err
		}
		in.Records = append(in.Records, rec)
	}
	return nil
}

func scriptRecord(kind, body string, at lifecycle.Stamp, fatal bool) (lifecycle.Record, error) {
	// Times of spans are written relative to the begin.
	for {
		i := strings.Index(body, `"+`)
		if i < 0 {
			break
		}
		j := i + 2 + strings.IndexByte(body[i+2:], '"')
		d, err := time.ParseDuration(body[i+2 : j])
		if err != nil {
			return nil, err
		}
		body = body[:i+1] + epoch().Add(d).Format(time.RFC3339Nano) + body[j:]
	}
	switch kind {
	case "platform.initStart":
		r := lifecycle.InitStart{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.extension":
		r := lifecycle.Extension{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.initRuntimeDone":
		r := lifecycle.InitRuntimeDone{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.initReport":
		r := lifecycle.InitReport{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.start":
		r := lifecycle.Start{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.runtimeDone":
		r := lifecycle.RuntimeDone{}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	case "platform.report":
		r := lifecycle.Report{Fatal: fatal}
		err := json.Unmarshal([]byte(body), &r)
		r.Stamp = at
		return r, err
	}
	return nil, fmt.Errorf("no such record: %s", kind)
}

// scripts are the files of testdata.
func scripts(t testing.TB) map[string]Input {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	all := map[string]Input{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = script(t, string(text))
	}
	return all
}

// golden compares with a file, or rewrites it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s\nwant\n%s", file, got, want)
	}
}
