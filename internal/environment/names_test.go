package environment

import (
	"regexp"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

// A log group of the customer's choice may be that of many functions.
func TestLogStreamName(t *testing.T) {
	now := time.Date(2026, 10, 8, 23, 59, 0, 0, time.FixedZone("", -3600))
	for group, want := range map[string]string{
		"/aws/lambda/fn": `^2026/10/09/\[\$LATEST\][0-9a-f]{32}$`,
		"/my/group":      `^2026/10/09/fn\[\$LATEST\][0-9a-f]{32}$`,
	} {
		v := &firn.FunctionVersion{Name: "fn", Version: "$LATEST", LogGroup: group}
		if got := logStream(now, v); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s", group, got)
		}
	}
}
