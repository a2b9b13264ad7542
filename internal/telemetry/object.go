package telemetry

import "bytes"

// object is what AppendLine wants to know of a line that is a JSON object.
type object struct {
	level     []byte // the string under "level", or nil
	timestamp []byte // the string under a name for the time, or nil
	// stampBegin and stampEnd are where the value of "timestamp" stands, both 0
	// without one.
	stampBegin, stampEnd int
	end                  int // where its closing brace stands
	members              int
}

// maxDepth bounds the nesting of a line's JSON.
const maxDepth = 256

// scanner walks over a JSON text once, without memory of its own: a function
// may write a hundred thousand of them in a second. It looks at the structure
// and not into numbers and escapes, which are none of its business: what passes
// here unseen is the function's own to answer for.
type scanner struct {
	text []byte
	at   int
}

// scanObject reads a line that is a single JSON object. The first of several
// members of one name counts.
func scanObject(text []byte) (o object, ok bool) {
	s := scanner{text: text}
	if s.next() != '{' {
		return o, false
	}
	s.at++
	for s.next() != '}' {
		if o.members > 0 && !s.take(',') {
			return o, false
		}
		s.next()
		key, ok := s.string()
		if !ok || !s.take(':') {
			return o, false
		}
		s.next()
		begin := s.at
		value, isString, ok := s.value()
		if !ok {
			return o, false
		}
		o.note(key, value, isString, begin, s.at)
		o.members++
	}
	if s.at >= len(text) {
		return o, false
	}
	o.end = s.at
	s.at++
	s.next()
	return o, s.at == len(text)
}

// note keeps the members that matter. The names for the time are those that
// managed runtimes and the common logging libraries use.
func (o *object) note(key, value []byte, isString bool, begin, end int) {
	switch string(key) {
	case "level":
		if o.level == nil && isString {
			o.level = value
		}
	case "timestamp":
		if o.stampEnd == 0 {
			o.stampBegin, o.stampEnd = begin, end
		}
		fallthrough
	case "time", "@timestamp", "Timestamp":
		if isString && (o.timestamp == nil || !validTime(o.timestamp)) {
			o.timestamp = value
		}
	}
}

// next skips white space and returns the byte there, 0 at the end.
func (s *scanner) next() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take skips white space and one byte that must be c.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// string reads a string and returns what is between its quotes, escapes
// included.
func (s *scanner) string() ([]byte, bool) {
	if s.at >= len(s.text) || s.text[s.at] != '"' {
		return nil, false
	}
	s.at++
	begin := s.at
	for {
		n := bytes.IndexByte(s.text[s.at:], '"')
		if n < 0 {
			return nil, false
		}
		s.at += n
		escapes := 0
		for i := s.at - 1; i >= begin && s.text[i] == '\\'; i-- {
			escapes++
		}
		s.at++
		if escapes%2 == 0 {
			return s.text[begin : s.at-1], true
		}
	}
}

// value reads any value; the text of one that is a string is returned.
func (s *scanner) value() (text []byte, isString, ok bool) {
	switch s.next() {
	case '"':
		text, ok = s.string()
		return text, ok, ok
	case '{', '[':
		return nil, false, s.nested()
	}
	begin := s.at
	for s.at < len(s.text) && isWord(s.text[s.at]) {
		s.at++
	}
	switch word := s.text[begin:s.at]; string(word) {
	case "true", "false", "null":
		return nil, false, true
	default:
		return nil, false, len(word) > 0 && (word[0] == '-' || '0' <= word[0] && word[0] <= '9')
	}
}

// isWord is of numbers, true, false and null.
func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'E'
}

// nested skips an object or array by its brackets.
func (s *scanner) nested() bool {
	var closing [maxDepth]byte
	depth := 0
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '"':
			if _, ok := s.string(); !ok {
				return false
			}
			continue
		case '{', '[':
			if depth == maxDepth {
				return false
			}
			closing[depth] = c + 2 // both pairs are two apart in ASCII
			depth++
		case '}', ']':
			if closing[depth-1] != c {
				return false
			}
			depth--
			if depth == 0 {
				s.at++
				return true
			}
		}
		s.at++
	}
	return false
}
