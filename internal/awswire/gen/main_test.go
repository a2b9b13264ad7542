package main

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const small = `{"operations":{"Op":{"input":{"shape":"OpRequest"}}},"shapes":{
	"OpRequest":{"type":"structure","required":["Name"],"members":{"Name":{"shape":"Name"},"List":{"shape":"List"},"Map":{"shape":"Map"}}},
	"Name":{"type":"string","min":1,"max":64,"pattern":"[a-z]+"},
	"List":{"type":"list","member":{"shape":"Kind"},"max":2},
	"Map":{"type":"map","key":{"shape":"Name"},"value":{"shape":"Alias"}},
	"Kind":{"type":"string","enum":["A","B"]},
	"Alias":{"type":"string","pattern":"(?!^[0-9]+$)([a-zA-Z0-9-_]+)"},
	"Unreached":{"type":"string","pattern":"(?!x)"}}}`

// TestGenerate renders a small model, plain and gzipped.
func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	plain, packed, out := filepath.Join(dir, "m.json"), filepath.Join(dir, "m.json.gz"), filepath.Join(dir, "out.go")
	if err := os.WriteFile(plain, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(packed)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	if _, err := z.Write([]byte(small)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, packed} {
		if err := run(path, table{"x", "test 1", false}, out); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(strings.Fields(string(text)), " ")
		for _, want := range []string{
			"from test 1; DO NOT EDIT.",
			`"OpRequest": "Name"`,
			"\"Name\": {HasMin: true, Min: 1, HasMax: true, Max: 64, Pattern: `[a-z]+`}",
			`"List": {HasMax: true, Max: 2}`,
			"\"Kind\": {Enum: `A, B`}",
			"Match: `[0-9]*[a-zA-Z_-][0-9a-zA-Z_-]*`",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
		if strings.Contains(got, "Unreached") {
			t.Error("a shape that no input reaches is in the table")
		}
	}
}

// TestNewLookaround fails on a pattern that Go cannot say and nobody rewrote.
func TestNewLookaround(t *testing.T) {
	s := &shape{Type: "string", Pattern: "(?<!x)y"}
	if _, err := ruleText("New", s); err == nil || !strings.Contains(err.Error(), "New") {
		t.Errorf("got %v", err)
	}
	if err := run(filepath.Join(t.TempDir(), "none"), table{}, ""); err == nil {
		t.Error("a model that is not there was read")
	}
}

// TestAnswers renders the answers of a small model.
func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "m.json"), filepath.Join(dir, "out.json")
	write := func(status string) {
		t.Helper()
		text := `{"operations":{"B":{"errors":[{"shape":"Y"},{"shape":"X"}]},"A":{"http":{"responseCode":202}}},"shapes":{
			"X":{"error":{"httpStatusCode":404}},"Y":{"error":{` + status + `}}}}`
		if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`"httpStatusCode":409`)
	if err := run(in, table{"x", "test 1", true}, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const want = `"operations": {
"A": {"status":202,"errors":[]},
"B": {"status":200,"errors":["X","Y"]}
},
"exceptions": {
"X": 404,
"Y": 409
}}
`
	if !strings.HasPrefix(string(got), `{"source": "AWS's service-2.json, licensed Apache-2.0, from test 1;`) || !strings.HasSuffix(string(got), want) {
		t.Errorf("%s", got)
	}
	write("")
	if err := run(in, table{"x", "test 1", true}, out); err == nil || !strings.Contains(err.Error(), "Y") {
		t.Errorf("an exception without status: %v", err)
	}
}
