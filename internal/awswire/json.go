package awswire

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a body. The deepest input of the API has 6
// levels.
const maxDepth = 64

// scanner reads JSON (RFC 8259) from memory, value by value. It is used in
// place of encoding/json because the decoder is driven by schemas, must tell
// an absent member from a zero one, and answers wrong types in AWS's words; and
// so that 70 MB of base64 are looked at once.
type scanner struct {
	data []byte
	pos  int
}

// syntaxError is malformed JSON.
type syntaxError struct {
	offset int
	what   string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("Could not parse request body into json: %s at offset %d", e.what, e.offset)
}

func (s *scanner) fail(what string) error { return &syntaxError{s.pos, what} }

// unexpected is the error for the byte at the current position.
func (s *scanner) unexpected() error {
	if s.pos >= len(s.data) {
		return s.fail("Unexpected end-of-input")
	}
	return s.fail("Unexpected character (" + strconv.QuoteRune(rune(s.data[s.pos])) + ")")
}

// peek skips white space and returns the first byte of what follows, or 0 at
// the end.
func (s *scanner) peek() byte {
	for ; s.pos < len(s.data); s.pos++ {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
		default:
			return s.data[s.pos]
		}
	}
	return 0
}

// expect skips white space and consumes c.
func (s *scanner) expect(c byte) error {
	if s.peek() != c || s.pos >= len(s.data) {
		return s.unexpected()
	}
	s.pos++
	return nil
}

// end checks that only white space is left.
func (s *scanner) end() error {
	if s.peek(); s.pos < len(s.data) {
		return s.unexpected()
	}
	return nil
}

// members calls f for every member of an object, with the position at its
// value; f must consume the value.
func (s *scanner) members(f func(name string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.unexpected()
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := f(name); err != nil {
			return err
		}
		if more, err := s.more('}'); !more {
			return err
		}
	}
}

// items calls f for every item of an array, with the position at its value; f
// must consume the value.
func (s *scanner) items(f func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := f(); err != nil {
			return err
		}
		if more, err := s.more(']'); !more {
			return err
		}
	}
}

// more consumes a comma (true) or the closing byte (false).
func (s *scanner) more(closing byte) (bool, error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case closing:
		s.pos++
		return false, nil
	}
	return false, s.unexpected()
}

// null consumes a null if there is one.
func (s *scanner) null() (bool, error) {
	if s.peek() != 'n' {
		return false, nil
	}
	return true, s.literal("null")
}

// literal consumes one of true, false and null.
func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.unexpected()
	}
	s.pos += len(word)
	return nil
}

// number consumes a number and returns its text.
func (s *scanner) number() (string, error) {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	if s.at('-') {
		s.pos++
	}
	if s.at('0') {
		s.pos++
	} else if !digits() {
		return "", s.unexpected()
	}
	if s.at('.') {
		s.pos++
		if !digits() {
			return "", s.unexpected()
		}
	}
	if s.at('e') || s.at('E') {
		s.pos++
		if s.at('+') || s.at('-') {
			s.pos++
		}
		if !digits() {
			return "", s.unexpected()
		}
	}
	return string(s.data[start:s.pos]), nil
}

func (s *scanner) at(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }

// text consumes a string and returns it decoded.
func (s *scanner) text() (string, error) {
	b, err := s.bytes()
	return string(b), err
}

// bytes consumes a string and returns it decoded. The result is a part of the
// input when the string has no escapes.
func (s *scanner) bytes() ([]byte, error) {
	s.pos++ // the quote, which the caller has seen
	start := s.pos
	ascii := true
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			raw := s.data[start:s.pos]
			if !ascii && !utf8.Valid(raw) {
				return nil, s.fail("Invalid UTF-8")
			}
			s.pos++
			return raw, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, s.fail("Illegal unquoted character")
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.pos++
		}
	}
	return nil, s.unexpected()
}

// escaped goes on with a string in which an escape has been met.
func (s *scanner) escaped(start int) ([]byte, error) {
	out := append([]byte(nil), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, s.fail("Invalid UTF-8")
			}
			s.pos++
			return out, nil
		case c == '\\':
			var err error
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.fail("Illegal unquoted character")
		default:
			out = append(out, c)
			s.pos++
		}
	}
	return nil, s.unexpected()
}

// escape decodes one escape sequence. A surrogate without its partner becomes
// U+FFFD.
func (s *scanner) escape(out []byte) ([]byte, error) {
	s.pos++
	if s.pos >= len(s.data) {
		return nil, s.unexpected()
	}
	c := s.data[s.pos]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return s.unicode(out)
	default:
		return nil, s.unexpected()
	}
	s.pos++
	return append(out, c), nil
}

// unicode decodes \uXXXX, the position being at the u, with the second half of
// a surrogate pair if there is one.
func (s *scanner) unicode(out []byte) ([]byte, error) {
	first, ok := hex4(s.data[s.pos+1:])
	if !ok {
		return nil, s.unexpected()
	}
	s.pos += 5
	if utf16.IsSurrogate(first) && s.at('\\') && s.pos+1 < len(s.data) && s.data[s.pos+1] == 'u' {
		if second, ok := hex4(s.data[s.pos+2:]); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				s.pos += 6
				return utf8.AppendRune(out, r), nil
			}
		}
	}
	return utf8.AppendRune(out, first), nil // a surrogate becomes U+FFFD
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(v), err == nil
}

// skip consumes any value, depth levels below the top.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.fail("Nesting is too deep")
	}
	switch c := s.peek(); {
	case c == '{':
		return s.members(func(string) error { return s.skip(depth + 1) })
	case c == '[':
		return s.items(func() error { return s.skip(depth + 1) })
	case c == '"':
		_, err := s.bytes()
		return err
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		_, err := s.number()
		return err
	}
}
