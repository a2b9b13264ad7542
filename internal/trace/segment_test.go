package trace

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/timeline"
)

func datagram(document string) []byte {
	return []byte("{\"format\": \"json\", \"version\": 1}\n" + document)
}

// What an SDK sends: a subsegment with one inside, a call that failed.
const sent = `{"trace_id":"1-5759e988-bd862e3fe1be46a994272793","id":"00000000000000A1","parent_id":"53995c3f42cd8ad8","type":"subsegment",
 "name":"handler","start_time":1767323045.010,"end_time":1767323045.060,
 "annotations":{"tenant":"ice","n":3,"ratio":0.5,"ok":true,"list":[1]},"metadata":{"default":{"big":"x"}},
 "subsegments":[{"id":"00000000000000a2","name":"DynamoDB","namespace":"aws","start_time":1767323045.012,"end_time":1767323045.050,"throttle":true,"error":true,
  "http":{"request":{"method":"POST","url":"https://dynamodb"},"response":{"status":400}},"aws":{"operation":"PutItem","region":"eu-west-1","table_name":"t"},
  "cause":{"exceptions":[{"type":"Slow","message":"down"}]}},
  {"id":"bad","name":"left out","start_time":1}]}`

func TestParse(t *testing.T) {
	got, err := parse(datagram(sent))
	if err != nil {
		t.Fatal(err)
	}
	base := time.Unix(1767323045, 0).UTC()
	want := []timeline.Segment{
		{TraceID: root, ID: "00000000000000a1", ParentID: "53995c3f42cd8ad8", Name: "handler", Start: base.Add(10 * time.Millisecond), End: base.Add(60 * time.Millisecond),
			Attributes: []timeline.Attribute{{Key: "annotation.n", Value: int64(3)}, {Key: "annotation.ok", Value: true}, {Key: "annotation.ratio", Value: 0.5}, {Key: "annotation.tenant", Value: "ice"}}},
		{TraceID: root, ID: "00000000000000a2", ParentID: "00000000000000a1", Name: "DynamoDB", Namespace: "aws", Start: base.Add(12 * time.Millisecond), End: base.Add(50 * time.Millisecond),
			Error: true, Throttle: true, Cause: "Slow: down", Attributes: []timeline.Attribute{
				{Key: "http.request.method", Value: "POST"}, {Key: "url.full", Value: "https://dynamodb"}, {Key: "http.response.status_code", Value: int64(400)},
				{Key: "rpc.method", Value: "PutItem"}, {Key: "cloud.region", Value: "eu-west-1"}, {Key: "aws.dynamodb.table_name", Value: "t"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	good := `{"trace_id":"` + root + `","id":"00000000000000a1","name":"n","start_time":1}`
	if _, err := parse(datagram(good)); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty":           nil,
		"no header":       []byte(good),
		"other format":    []byte("{\"format\":\"xml\",\"version\":1}\n" + good),
		"other version":   []byte("{\"format\":\"json\",\"version\":2}\n" + good),
		"long header":     []byte("{\"format\":\"json\",\"version\":1,\"x\":\"" + strings.Repeat("x", maxHeader) + "\"}\n" + good),
		"no JSON":         datagram("x"),
		"too large":       datagram(good + strings.Repeat(" ", maxDatagram)),
		"no trace":        datagram(strings.Replace(good, root, "", 1)),
		"bad trace":       datagram(strings.Replace(good, root, "1-x-y", 1)),
		"bad id":          datagram(strings.Replace(good, "00000000000000a1", "a1", 1)),
		"no name":         datagram(strings.Replace(good, `"n"`, `""`, 1)),
		"no start":        datagram(strings.Replace(good, "start_time", "x", 1)),
		"start at 1e300":  datagram(strings.Replace(good, `"start_time":1`, `"start_time":1e300`, 1)),
		"negative start":  datagram(strings.Replace(good, `"start_time":1`, `"start_time":-1`, 1)),
		"start is a text": datagram(strings.Replace(good, `"start_time":1`, `"start_time":"1"`, 1)),
	} {
		if got, err := parse(raw); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

// Segments join the invocation of their trace, also when they come late, and
// are exported as they end; what was in progress is replaced.
func TestSegments(t *testing.T) {
	b := newBench(Config{})
	b.begin("r1", header)
	open := `{"trace_id":"` + root + `","id":"00000000000000a9","parent_id":"53995c3f42cd8ad8","name":"slow","start_time":1767323045,"in_progress":true}`
	b.Segments(b.src, datagram(open))
	b.Segments(b.src, datagram(sent))
	b.end("r1")
	b.invoke("r2", strings.Replace(header, "5759e988", "5759e989", 1))
	b.Segments(b.src, datagram(strings.Replace(open, `"in_progress":true`, `"end_time":1767323046`, 1))) // late
	b.Segments(b.src, datagram(strings.Replace(open, `"in_progress":true`, `"end_time":1767323047`, 1))) // again
	b.Segments(b.src, datagram(strings.Replace(open, root, "1-5759e980-bd862e3fe1be46a994272793", 1)))   // of nobody
	b.Segments(b.src, []byte("rubbish"))
	if got := b.Refused(); got != 2 {
		t.Errorf("%d refused, want 2", got)
	}
	lanes := []string{}
	for _, l := range b.timeline(t, "r1").Lanes {
		if l.Kind == timeline.Call {
			lanes = append(lanes, fmt.Sprint(l.Depth, " ", l.Name))
		}
	}
	if diff := cmp.Diff([]string{"0 slow", "0 handler", "1 DynamoDB"}, lanes); diff != "" {
		t.Errorf("lanes (-want +got):\n%s", diff)
	}
	ends := map[string]string{}
	for _, s := range b.out.spans() {
		if id := hex.EncodeToString(s.ID[:]); strings.HasPrefix(id, "00000000000000a") {
			ends[s.Name+" below "+hex.EncodeToString(s.Parent[:])] = s.End.UTC().Format("05.000")
		}
	}
	want := map[string]string{"handler below 53995c3f42cd8ad8": "05.060", "DynamoDB below 00000000000000a1": "05.050", "slow below 53995c3f42cd8ad8": "06.000"}
	if diff := cmp.Diff(want, ends); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}

// A function cannot fill the memory with segments.
func TestSegmentsBounded(t *testing.T) {
	b := newBench(Config{})
	b.begin("r1", header)
	for n := range 1000 {
		b.Segments(b.src, datagram(fmt.Sprintf(`{"trace_id":%q,"id":"%016x","name":%q,"start_time":1,"end_time":2}`, root, n+1, strings.Repeat("x", 5000))))
	}
	e := b.byID["r1"]
	if len(e.segments) != maxSegments || e.segBytes > maxSegmentBytes || b.Refused() != 900 {
		t.Errorf("%d segments of %d bytes, %d refused", len(e.segments), e.segBytes, b.Refused())
	}
	deep := strings.Repeat(`{"id":"00000000000000a1","name":"n","start_time":1,"subsegments":[`, 40) + strings.Repeat("]}", 40)
	got, err := parse(datagram(`{"trace_id":"` + root + `",` + deep[1:]))
	if err != nil || len(got) != maxDepth+1 {
		t.Errorf("%d levels, %v", len(got), err)
	}
	var wide strings.Builder
	for n := range 600 {
		fmt.Fprintf(&wide, `,{"id":"%016x","name":"n","start_time":1}`, n+2)
	}
	got, err = parse(datagram(`{"trace_id":"` + root + `","id":"00000000000000a1","name":"n","start_time":1,"subsegments":[` + wide.String()[1:] + "]}"))
	if err != nil || len(got) != maxSegments {
		t.Errorf("%d segments, %v", len(got), err)
	}
}

func FuzzSegments(f *testing.F) {
	f.Add(datagram(sent))
	f.Add(datagram(`{"trace_id":"` + root + `","id":"00000000000000a1","name":"\ud800","start_time":1e9,"end_time":1,"cause":"x","http":{"response":{"status":1e400}}}`))
	f.Add([]byte("{}\n{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		segments, err := parse(raw)
		if err != nil {
			return
		}
		if len(segments) == 0 || len(segments) > maxSegments {
			t.Errorf("%d segments", len(segments))
		}
		for _, s := range segments {
			if len(s.Name) > maxName || len(s.Attributes) > maxAttributes || !s.End.IsZero() && s.End.Before(s.Start) {
				t.Errorf("%+v", s)
			}
			if _, ok := timeline.SegmentSpan(&s); ok && s.End.IsZero() {
				t.Error("an open segment is a span")
			}
		}
	})
}

func TestClip(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 5, "abc"}, {"abcdef", 3, "abc"}, {"aüü", 3, "aü"}, {"aüü", 4, "aü"}, {"\xff", 3, "�"}, {"ü", 1, ""}} {
		if got := clip(test.in, test.n); got != test.want {
			t.Errorf("clip(%q, %d) = %q, want %q", test.in, test.n, got, test.want)
		}
	}
}
