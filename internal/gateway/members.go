package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/firn-run/firn/internal/awswire/jsonscan"
)

// errNotJSON is a payload that no response can be read from.
var errNotJSON = errors.New("the payload is not JSON")

// members calls f with each member of a JSON object, in order; value is the
// part of b that it is written in. It finds where values end and does not
// check them, which whoever uses one does: bodies are megabytes, and package
// encoding/json would go over each byte four times.
func members(b []byte, f func(name string, value []byte) error) error {
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return errNotJSON
	}
	if i = space(b, i+1); i < len(b) && b[i] == '}' {
		return atEnd(b, i+1)
	}
	for {
		end := valueEnd(b, i)
		if end < 0 || b[i] != '"' {
			return errNotJSON
		}
		name, err := unquote(b[i:end])
		if err != nil {
			return err
		}
		if i = space(b, end); i == len(b) || b[i] != ':' {
			return errNotJSON
		}
		i = space(b, i+1)
		if end = valueEnd(b, i); end < 0 {
			return errNotJSON
		}
		if err := f(string(name), b[i:end]); err != nil {
			return fmt.Errorf("%.40q: %w", name, err)
		}
		if i = space(b, end); i == len(b) || b[i] != ',' && b[i] != '}' {
			return errNotJSON
		}
		if b[i] == '}' {
			return atEnd(b, i+1)
		}
		i = space(b, i+1)
	}
}

func atEnd(b []byte, i int) error {
	if space(b, i) < len(b) {
		return errNotJSON
	}
	return nil
}

// space passes over white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// valueEnd finds the end of the value that begins at i, or -1.
func valueEnd(b []byte, i int) int {
	if i == len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		for depth := 0; i < len(b); i++ {
			switch b[i] {
			case '"':
				end := stringEnd(b, i)
				if end < 0 {
					return -1
				}
				i = end - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	}
	n := bytes.IndexAny(b[i:], ",}] \n\t\r")
	if n <= 0 {
		return -1
	}
	return i + n
}

// stringEnd finds the end of the string whose first quote is at i, or -1: the
// next quote that an even number of backslashes precedes.
func stringEnd(b []byte, i int) int {
	for j := i + 1; ; j++ {
		n := bytes.IndexByte(b[j:], '"')
		if n < 0 {
			return -1
		}
		j += n
		slashes := 0
		for b[j-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return j + 1
		}
	}
}

// unquote decodes a string; the result may be a part of it.
func unquote(b []byte) ([]byte, error) {
	s := jsonscan.Scanner{Data: b}
	out, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	return out, s.End()
}

// plain is the text of any JSON value: a string without its quotes, and
// anything else compacted.
func plain(b []byte) ([]byte, error) {
	if b[0] == '"' {
		return unquote(b)
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, b); err != nil {
		return nil, errNotJSON
	}
	return buf.Bytes(), nil
}
