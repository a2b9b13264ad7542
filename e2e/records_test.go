package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRecords is `records FILE PARTY`: it prints the telemetry records that the
// extension PARTY wrote to its log, found in firn's live view in FILE, one a
// line, with what differs from run to run replaced: request ids by r1, r2, ...
// in the order of their appearance, times by T, durations by D, sizes of
// memory by M, trace identities by X, and names of log streams by S. Extensions
// start side by side, so that neighbouring subscriptions are sorted.
func cmdRecords(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: records FILE PARTY")
	}
	mark := "│ [" + args[1] + "] "
	n := normaliser{ids: map[string]string{}}
	var lines []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		_, text, ok := strings.Cut(line, mark)
		if !ok {
			continue
		}
		text = strings.TrimPrefix(strings.TrimSpace(text), "RECORD ")
		if !strings.HasPrefix(text, `{"time"`) {
			continue
		}
		out, err := n.normalise([]byte(text))
		if err != nil {
			ts.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, out)
	}
	for i := 0; i < len(lines); {
		n := slices.IndexFunc(lines[i:], func(line string) bool { return !strings.Contains(line, "Subscription ") })
		if n < 0 {
			n = len(lines) - i
		}
		slices.Sort(lines[i : i+n])
		i += n + 1
	}
	for _, line := range lines {
		fmt.Fprintln(ts.Stdout(), line)
	}
}

type normaliser struct{ ids map[string]string }

var (
	timeForm   = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	streamForm = regexp.MustCompile(`^\d{4}/\d\d/\d\d/\[(\$LATEST|\d+)\][0-9a-f]{32}$`)
	traceForm  = regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01];Lineage=1:[0-9a-f]{8}:0$`)
	spanForm   = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

func (n *normaliser) normalise(raw []byte) (string, error) {
	var envelope struct {
		Time   string
		Type   string
		Record any
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&envelope); err != nil {
		return "", err
	}
	if !timeForm.MatchString(envelope.Time) {
		return "", fmt.Errorf("bad time %s", envelope.Time)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(n.value("", envelope.Record)); err != nil {
		return "", err
	}
	return envelope.Type + " " + strings.TrimSpace(out.String()), nil
}

func (n *normaliser) value(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = n.value(name, member)
		}
		return v
	case []any:
		for i := range v {
			v[i] = n.value("", v[i])
		}
		return v
	case float64:
		switch {
		case strings.HasSuffix(key, "Ms"):
			return "D"
		case key == "maxMemoryUsedMB":
			return "M"
		}
		return v
	case string:
		switch {
		case timeForm.MatchString(v):
			return "T"
		case streamForm.MatchString(v):
			return "S"
		case traceForm.MatchString(v), key == "spanId" && spanForm.MatchString(v):
			return "X"
		}
		return uuid.ReplaceAllStringFunc(v, func(id string) string {
			if n.ids[id] == "" {
				n.ids[id] = fmt.Sprintf("r%d", len(n.ids)+1)
			}
			return n.ids[id]
		})
	}
	return v
}
