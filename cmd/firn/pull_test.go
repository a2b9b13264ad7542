package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/runtimes"
)

func TestBar(t *testing.T) {
	for _, test := range []struct {
		progress runtimes.Progress
		want     string
	}{
		{runtimes.Progress{}, ""},
		{runtimes.Progress{Total: 200 * firn.MiB, Layers: 6}, "[" + strings.Repeat(".", 20) + "] 0/200 MB, 6 layers, "},
		{runtimes.Progress{Done: 50 * firn.MiB, Total: 200 * firn.MiB, Layers: 6}, "[#####...............] 50/200 MB, 6 layers, "},
		{runtimes.Progress{Done: 3, Total: 2, Layers: 1}, "[" + strings.Repeat("#", 20) + "] 0/0 MB, 1 layers, "},
	} {
		if got := bar(test.progress); got != test.want {
			t.Errorf("%+v: %q", test.progress, got)
		}
	}
}

// Where there is no terminal each step is told once, however often it moves.
func TestProgressLine(t *testing.T) {
	var out bytes.Buffer
	show, clear := progressLine(&out, "java21")
	for done := range int64(5) {
		show(runtimes.Progress{Step: 1, Steps: 2, Text: "fetching", Done: done, Total: 5})
	}
	show(runtimes.Progress{Step: 2, Steps: 2, Text: "installing"})
	clear()
	if got := out.String(); got != "java21 [1/2] fetching\njava21 [2/2] installing\n" {
		t.Errorf("%q", got)
	}
}
