package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// The scripts of internal/servertest/probe, which has the meaning of each
// field, and what it sends back.
type (
	plan map[string]part
	part struct {
		Init     []step            `json:"init,omitempty"`
		Register string            `json:"register,omitempty"`
		On       map[string][]step `json:"on,omitempty"`
		Term     []step            `json:"term,omitempty"`
		Deaf     bool              `json:"deaf,omitempty"`
		Once     bool              `json:"once,omitempty"`
	}
	event struct {
		Take  bool   `json:"take,omitempty"`
		Steps []step `json:"steps,omitempty"`
		Quiet bool   `json:"quiet,omitempty"`
		After []step `json:"after,omitempty"`
	}
	step struct {
		Name  string `json:"name,omitempty"`
		Send  string `json:"send,omitempty"`
		Raw   string `json:"raw,omitempty"`
		Fill  int    `json:"fill,omitempty"`
		Conn  string `json:"conn,omitempty"`
		Half  bool   `json:"half,omitempty"`
		Hang  bool   `json:"hang,omitempty"`
		Also  int    `json:"also,omitempty"`
		Park  bool   `json:"park,omitempty"`
		Print string `json:"print,omitempty"`
		Sleep int    `json:"sleep,omitempty"`
		Exit  *int   `json:"exit,omitempty"`
		Kill  int    `json:"kill,omitempty"`
		Show  string `json:"show,omitempty"`
		Spin  bool   `json:"spin,omitempty"`
	}
	seen struct {
		Name, Party string
		At          int64
		Status      int
		Header      map[string]string
		Body        string
		Closed      bool
		Error       string
		Also        []seen
	}
)

// probed is a function whose runtime and extensions are probes.
type probed struct {
	plan       plan // its parties but bootstrap are the extensions of a layer
	timeout    int32
	memory     int32
	variables  map[string]string
	files      map[string]file // further ones of the function
	layerFiles map[string]file // further ones of the layer
}

// probe makes a function of probes.
func (n *node) probe(name string, p probed) {
	n.t.Helper()
	text, err := json.Marshal(p.plan)
	if err != nil {
		n.t.Fatal(err)
	}
	f := function{timeout: p.timeout, memory: p.memory, variables: p.variables, files: map[string]file{
		"bootstrap": {from: program("probe")}, "probe.json": {text: string(text), mode: 0o644},
	}}
	for name, content := range p.files {
		f.files[name] = content
	}
	layer := map[string]file{}
	for party := range p.plan {
		if party != "bootstrap" {
			layer["extensions/"+party] = file{from: program("probe")}
		}
	}
	for name, content := range p.layerFiles {
		layer[name] = content
	}
	if len(layer) > 0 {
		f.layers = []string{n.publish(name, layer)}
	}
	n.create(name, f)
}

// publish makes a layer of files and returns its ARN.
func (n *node) publish(name string, files map[string]file) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := n.client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: archive(n.t, files)},
	})
	if err != nil {
		n.t.Fatalf("publish layer %s: %v", name, err)
	}
	return *out.LayerVersionArn
}

// send invokes a function with any event.
func (n *node) send(name string, payload any) answer {
	n.t.Helper()
	raw, ok := payload.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(payload); err != nil {
			n.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	begun := time.Now()
	out, err := n.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: raw, LogType: types.LogTypeTail})
	if err != nil {
		n.t.Fatalf("invoke %s: %v", name, err)
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		n.t.Fatal(err)
	}
	return answer{string(out.Payload), aws.ToString(out.FunctionError), string(log), time.Since(begun)}
}

// take returns what the probes of a function have seen since the last time.
func (n *node) take(name string) []seen {
	n.t.Helper()
	var all []seen
	n.send(name, event{Take: true}).into(n.t, &all)
	return all
}

// takeOf takes results until those of a step are among them: a party may be
// at work after the answer of its invocation, and the environment's reset may
// not be over. Invocations that fail do not count.
func (n *node) takeOf(name, party, last string) []seen {
	n.t.Helper()
	var all []seen
	eventually(n.t, last+" of "+party, func() (bool, any) {
		if a := n.send(name, event{Take: true}); a.failure == "" {
			var more []seen
			a.into(n.t, &more)
			all = append(all, more...)
		}
		return len(of(all, party, last)) > 0, all
	})
	return all
}

// of finds the results of a party's step.
func of(all []seen, party, name string) []seen {
	var found []seen
	for _, s := range all {
		if s.Party == party && s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// brief is a result as tables have it: the status, the headers that matter,
// and the body without its line feed.
func (s seen) brief() string {
	if s.Error != "" {
		return s.Error
	}
	out := fmt.Sprint(s.Status)
	for _, name := range []string{"(continued)", "Allow", "Connection"} {
		if v, ok := s.Header[name]; ok {
			out += " " + name + "=" + v
		}
	}
	switch kind := s.Header["Content-Type"]; kind {
	case "application/json", "":
	default:
		out += " " + kind
	}
	out += " " + strings.TrimSuffix(s.Body, "\n")
	for _, also := range s.Also {
		out += " + " + also.brief()
	}
	if s.Closed {
		out += " (closed)"
	}
	return strings.TrimSpace(out)
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// row is one line of a table: a request and what must come back, with every
// UUID as <id>.
type row struct {
	name string
	step step
	want string
}

// steps makes a script of a table.
func steps(rows []row) []step {
	var out []step
	for _, r := range rows {
		r.step.Name = r.name
		out = append(out, r.step)
	}
	return out
}

// check compares a table with what a party has seen of it.
func check(t *testing.T, all []seen, party string, rows []row) {
	t.Helper()
	for _, r := range rows {
		got := of(all, party, r.name)
		if len(got) == 0 { // more than one after another init
			t.Errorf("%s: no result", r.name)
			continue
		}
		if text := uuid.ReplaceAllString(got[0].brief(), "<id>"); text != r.want {
			t.Errorf("%s: %q\n got %s\nwant %s", r.name, r.step.Send+r.step.Raw, text, r.want)
		}
	}
}

// match compares a text with a pattern.
func match(t *testing.T, what, pattern, text string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("%s is %q, which does not match %s", what, text, pattern)
	}
}
