//go:build linux

package linux

import (
	"os"
	"testing"
)

// TestProbe: what the probe says agrees with what the tests of this package
// can do, and every lack comes with advice.
func TestProbe(t *testing.T) {
	features := Probe(t.Context(), Config{InitPath: os.Getenv(initVariable)})
	for _, f := range features {
		if f.Name == "" || f.Detail == "" && !f.OK {
			t.Errorf("says nothing: %+v", f)
		}
		if !f.OK && f.Fix == "" {
			t.Errorf("lacks advice: %+v", f)
		}
		if f.Needed && !f.OK {
			t.Errorf("a needed feature is missing, but sandboxes work here: %+v", f)
		}
		t.Logf("%-32s %-5v %s", f.Name, f.OK, f.Detail)
	}
}

func TestProbeWithoutInit(t *testing.T) {
	features := Probe(t.Context(), Config{InitPath: "/nonexistent"})
	last := features[len(features)-1]
	if last.OK || !last.Needed || last.Fix == "" {
		t.Errorf("a sandbox without init: %+v", last)
	}
}
