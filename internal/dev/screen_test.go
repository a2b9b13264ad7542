package dev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/telemetry"
)

// What the user reads, in one piece.
func TestScreen(t *testing.T) {
	for name, style := range map[string]telemetry.Style{"plain": telemetry.Plain, "colour": telemetry.Colour} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := newScreen(&out, style)
			s.begin(&session{
				project:  Project{Folder: "/home/ada/hello", Name: "hello", Runtime: "nodejs22.x", Handler: "index.handler", Build: "npx tsc"},
				debugger: &debugger{family: runtimes.Nodejs, port: 9229}, poll: "too many directories",
				cfg: Config{Input: os.Stdin},
			})
			s.reloaded(reload{n: 1, changed: []string{"index.js"}, took: 31_234 * time.Microsecond})
			s.reloaded(reload{n: 2, changed: []string{"a.js", "b.js", "c\x1b[2J.js", "d.js", "e.js"}, built: 1100 * time.Millisecond, took: 1234 * time.Millisecond})
			s.answered(shown{answer: []byte("{\"ok\":true}\n"), took: 4321 * time.Microsecond})
			s.answered(shown{answer: []byte(`{"ok":true}`), took: 12 * time.Millisecond, sinceSave: 43 * time.Millisecond})
			s.answered(shown{answer: []byte(`{"errorType":"Error","errorMessage":"no"}`), failed: "Unhandled", took: 3 * time.Second})
			s.answered(shown{err: errors.New("the node is gone"), took: time.Millisecond})
			s.answered(shown{answer: []byte(strings.Repeat("x", 5000)), took: time.Millisecond})
			s.buildFailed(&buildError{errors.New("exit status 1"), "./main.go:3:1: syntax error\n\x07beep\n"}, 230*time.Millisecond, true)
			s.buildFailed(&buildError{errors.New("exit status 1"), ""}, 61*time.Second, false)
			s.reloadFailed(&unsettledError{"huge.bin"})
			s.note("not JSON")

			file := filepath.Join("testdata", "screen."+name)
			if *update {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
