// Package require decides what a test does on a machine that lacks a feature
// of the host: it skips, and says so; but where the environment variable
// FIRN_REQUIRE lists the feature, the lack is a failure. CI lists what its
// machines are known to have, so that no test is skipped there unseen.
package require

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Feature returns when ok is true. Otherwise it ends the test: as a skip that
// names the feature and the reason, or as a failure when the comma-separated
// list in FIRN_REQUIRE holds the feature's name.
func Feature(t testing.TB, name string, ok bool, why string) {
	t.Helper()
	if ok {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FIRN_REQUIRE"), ","), name) {
		t.Fatalf("feature %q is required here (FIRN_REQUIRE) but missing: %s", name, why)
	}
	t.Skipf("needs feature %q: %s", name, why)
}
