package invoke

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTraceID(t *testing.T) {
	const root = "1-5759e988-bd862e3fe1be46a994272793"
	now := time.Unix(0x6721a3b4, 0)
	for _, test := range []struct {
		name, header string
		active       bool
		want         string // a regular expression
	}{
		{"none", "", false, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0`},
		{"none, active", "", true, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0`},
		{"passed through", "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1", false, "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1"},
		{"odd, passed through", "Self=1;Custom=x", false, "Self=1;Custom=x"},
		{"sampled", "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=1"},
		{"not sampled", "Root=" + root + ";Sampled=0", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0"},
		{"undecided", "Root=" + root, true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0"},
		{"asking", "Root=" + root + ";Sampled=?", true, "Root=" + root + ";Parent=[0-9a-f]{16};Sampled=0"},
		{"lineage and spaces", "Sampled=1; Root=" + root + "; Lineage=a87bd80c:1|68fd508a:5", true, "Root=" + root + `;Parent=[0-9a-f]{16};Sampled=1;Lineage=a87bd80c:1\|68fd508a:5`},
		{"broken root", "Root=1-zz;Sampled=1", true, `Root=1-6721a3b4-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := traceID(test.header, test.active, now)
			if !regexp.MustCompile(`^(?:` + test.want + `)$`).MatchString(got) {
				t.Errorf("%s, want %s", got, test.want)
			}
			if test.active && strings.Contains(got, "53995c3f42cd8ad8") {
				t.Error("the caller's parent was kept")
			}
		})
	}
	if a, b := traceID("", false, now), traceID("", false, now); a == b {
		t.Error("two traces are the same")
	}
}
