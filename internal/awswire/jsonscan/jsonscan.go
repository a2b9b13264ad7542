// Package jsonscan reads JSON (RFC 8259) from memory, value by value, driven by
// its caller, who knows which type comes next.
//
// It stands in the place of encoding/json where bodies are decoded by schemas:
// absent members must be told from zero ones, names are case-sensitive, wrong
// types are answered in AWS's words, nesting is bounded, and 70 MB of base64
// must be looked at once only.
package jsonscan

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth bounds the nesting of a body. The deepest input of the API has 6
// levels.
const MaxDepth = 64

// Scanner reads JSON (RFC 8259) from memory, value by value. It is used in
// place of encoding/json because the decoder is driven by schemas, must tell
// an absent member from a zero one, and answers wrong types in AWS's words; and
// so that 70 MB of base64 are looked at once.
type Scanner struct {
	// Data is the text.
	Data []byte
	pos  int
}

// SyntaxError is malformed JSON.
type SyntaxError struct {
	offset int
	what   string
}

// Error says what is wrong and at which byte, in the words of AWS.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("Could not parse request body into json: %s at offset %d", e.what, e.offset)
}

// Fail is a SyntaxError at the current position.
func (s *Scanner) Fail(what string) error { return &SyntaxError{s.pos, what} }

// unexpected is the error for the byte at the current position.
func (s *Scanner) unexpected() error {
	if s.pos >= len(s.Data) {
		return s.Fail("Unexpected end-of-input")
	}
	return s.Fail("Unexpected character (" + strconv.QuoteRune(rune(s.Data[s.pos])) + ")")
}

// Peek skips white space and returns the first byte of what follows, or 0 at
// the end.
func (s *Scanner) Peek() byte {
	for ; s.pos < len(s.Data); s.pos++ {
		switch s.Data[s.pos] {
		case ' ', '\t', '\r', '\n':
		default:
			return s.Data[s.pos]
		}
	}
	return 0
}

// expect skips white space and consumes c.
func (s *Scanner) expect(c byte) error {
	if s.Peek() != c || s.pos >= len(s.Data) {
		return s.unexpected()
	}
	s.pos++
	return nil
}

// End checks that only white space is left.
func (s *Scanner) End() error {
	if s.Peek(); s.pos < len(s.Data) {
		return s.unexpected()
	}
	return nil
}

// Members calls f for every member of an object, with the position at its
// value; f must consume the value.
func (s *Scanner) Members(f func(name string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.Peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.Peek() != '"' {
			return s.unexpected()
		}
		name, err := s.Text()
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

// Items calls f for every item of an array, with the position at its value; f
// must consume the value.
func (s *Scanner) Items(f func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.Peek() == ']' {
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
func (s *Scanner) more(closing byte) (bool, error) {
	switch s.Peek() {
	case ',':
		s.pos++
		return true, nil
	case closing:
		s.pos++
		return false, nil
	}
	return false, s.unexpected()
}

// Null consumes a null if there is one.
func (s *Scanner) Null() (bool, error) {
	if s.Peek() != 'n' {
		return false, nil
	}
	return true, s.Literal("null")
}

// Literal consumes one of true, false and null.
func (s *Scanner) Literal(word string) error {
	if len(s.Data)-s.pos < len(word) || string(s.Data[s.pos:s.pos+len(word)]) != word {
		return s.unexpected()
	}
	s.pos += len(word)
	return nil
}

// Number consumes a number and returns its text.
func (s *Scanner) Number() (string, error) {
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.Data) && s.Data[s.pos] >= '0' && s.Data[s.pos] <= '9' {
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
	return string(s.Data[start:s.pos]), nil
}

func (s *Scanner) at(c byte) bool { return s.pos < len(s.Data) && s.Data[s.pos] == c }

// Text consumes a string and returns it decoded.
func (s *Scanner) Text() (string, error) {
	b, err := s.Bytes()
	return string(b), err
}

// Bytes consumes a string and returns it decoded. The result is a part of the
// input when the string has no escapes.
func (s *Scanner) Bytes() ([]byte, error) {
	s.pos++ // the quote, which the caller has seen
	start := s.pos
	ascii := true
	for s.pos < len(s.Data) {
		switch c := s.Data[s.pos]; {
		case c == '"':
			raw := s.Data[start:s.pos]
			if !ascii && !utf8.Valid(raw) {
				return nil, s.Fail("Invalid UTF-8")
			}
			s.pos++
			return raw, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return nil, s.Fail("Illegal unquoted character")
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.pos++
		}
	}
	return nil, s.unexpected()
}

// escaped goes on with a string in which an escape has been met.
func (s *Scanner) escaped(start int) ([]byte, error) {
	out := append([]byte(nil), s.Data[start:s.pos]...)
	for s.pos < len(s.Data) {
		switch c := s.Data[s.pos]; {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, s.Fail("Invalid UTF-8")
			}
			s.pos++
			return out, nil
		case c == '\\':
			var err error
			if out, err = s.escape(out); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.Fail("Illegal unquoted character")
		default:
			out = append(out, c)
			s.pos++
		}
	}
	return nil, s.unexpected()
}

// escape decodes one escape sequence. A surrogate without its partner becomes
// U+FFFD.
func (s *Scanner) escape(out []byte) ([]byte, error) {
	s.pos++
	if s.pos >= len(s.Data) {
		return nil, s.unexpected()
	}
	c := s.Data[s.pos]
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
func (s *Scanner) unicode(out []byte) ([]byte, error) {
	first, ok := hex4(s.Data[s.pos+1:])
	if !ok {
		return nil, s.unexpected()
	}
	s.pos += 5
	if utf16.IsSurrogate(first) && s.at('\\') && s.pos+1 < len(s.Data) && s.Data[s.pos+1] == 'u' {
		if second, ok := hex4(s.Data[s.pos+2:]); ok {
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

// Skip consumes any value, depth levels below the top.
func (s *Scanner) Skip(depth int) error {
	if depth > MaxDepth {
		return s.Fail("Nesting is too deep")
	}
	switch c := s.Peek(); {
	case c == '{':
		return s.Members(func(string) error { return s.Skip(depth + 1) })
	case c == '[':
		return s.Items(func() error { return s.Skip(depth + 1) })
	case c == '"':
		_, err := s.Bytes()
		return err
	case c == 't':
		return s.Literal("true")
	case c == 'f':
		return s.Literal("false")
	case c == 'n':
		return s.Literal("null")
	default:
		_, err := s.Number()
		return err
	}
}
