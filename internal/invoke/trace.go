package invoke

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/firn-run/firn"
)

// traceID is the X-Ray header value that the function sees. In PassThrough
// mode the caller's header goes through unchanged; in Active mode there is
// always a trace, with a segment of ours as its parent and the caller's
// sampling decision (section 13 of the execution environment's
// specification).
func traceID(req *Request, v *firn.FunctionVersion) string {
	if !v.TracingActive {
		return req.TraceHeader
	}
	root, sampled, lineage := "", "", ""
	for part := range strings.SplitSeq(req.TraceHeader, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Root":
			root = value
		case "Sampled":
			sampled = value
		case "Lineage":
			lineage = ";Lineage=" + value
		}
	}
	if root == "" {
		root = fmt.Sprintf("1-%08x-%s", time.Now().Unix(), randomHex(12))
		if sampled == "" {
			sampled = "1"
		}
	}
	if sampled != "1" {
		sampled = "0"
	}
	return "Root=" + root + ";Parent=" + randomHex(8) + ";Sampled=" + sampled + lineage
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
