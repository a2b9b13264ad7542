package dev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
)

// maxLine bounds what is typed: an event as large as Lambda takes.
const maxLine = 6 << 20

// readEvents reads events that are typed: nil for an empty line.
func readEvents(ctx context.Context, in io.Reader, out chan<- []byte, complain func(string)) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		event := bytes.Clone(bytes.TrimSpace(lines.Bytes()))
		if len(event) == 0 {
			event = nil
		} else if !json.Valid(event) {
			complain("not JSON: type an event, or Enter alone to send the last one again")
			continue
		}
		select {
		case out <- event:
		case <-ctx.Done():
			return
		}
	}
}
