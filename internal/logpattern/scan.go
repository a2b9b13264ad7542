package logpattern

import (
	"strconv"
	"strings"
)

const blanks = " \t\r\n"

// scanner reads a pattern from left to right.
type scanner struct {
	src     string
	pos     int
	regexes int
}

func (s *scanner) space() {
	for s.pos < len(s.src) && strings.IndexByte(blanks, s.src[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scanner) end() bool { return s.pos >= len(s.src) }

func (s *scanner) at(token string) bool { return strings.HasPrefix(s.src[s.pos:], token) }

// take steps over a token if it is next, after blanks.
func (s *scanner) take(token string) bool {
	s.space()
	if !s.at(token) {
		return false
	}
	s.pos += len(token)
	return true
}

// run reads the longest text of which every byte is allowed.
func (s *scanner) run(allowed func(byte) bool) string {
	start := s.pos
	for s.pos < len(s.src) && allowed(s.src[s.pos]) {
		s.pos++
	}
	return s.src[start:s.pos]
}

// rest is what has not been read, shortened for a message.
func (s *scanner) rest() string {
	const limit = 40
	rest := s.src[s.pos:]
	if len(rest) <= limit {
		return rest
	}
	return rest[:limit] + "..."
}

// quoted reads a string between double quotes, in which a backslash makes a
// quote or a backslash literal.
func (s *scanner) quoted() (string, error) {
	var b strings.Builder
	for i := s.pos + 1; i < len(s.src); i++ {
		c := s.src[i]
		if c == '"' {
			s.pos = i + 1
			return b.String(), nil
		}
		if c == '\\' && i+1 < len(s.src) && (s.src[i+1] == '"' || s.src[i+1] == '\\') {
			i++
			c = s.src[i]
		}
		b.WriteByte(c)
	}
	return "", invalid("the string %s has no closing quote", s.rest())
}

func letterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func nameByte(c byte) bool { return letterOrDigit(c) || c == '_' || c == '-' }

// valueByte is what a value without quotes may have. The guide allows letters,
// digits and the underscore, and its own examples have the rest.
func valueByte(c byte) bool { return letterOrDigit(c) || strings.IndexByte("_*.-+:/", c) >= 0 }

// notBoundary is what belongs to a value that is not valid, for the message.
func notBoundary(c byte) bool { return strings.IndexByte(blanks+",]})&|", c) < 0 }

func badTerm(term string) error {
	return &Error{Message: "Invalid character(s) in term '" + term + "'"}
}

// operator is a comparison.
type operator int

const (
	equal operator = iota
	notEqual
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// operator reads a comparison. Older editions of the guide write =! for !=.
func (s *scanner) operator() (operator, bool) {
	for _, o := range []struct {
		token string
		op    operator
	}{{"!=", notEqual}, {"=!", notEqual}, {"<=", lessOrEqual}, {">=", greaterOrEqual}, {"=", equal}, {"<", less}, {">", greater}} {
		if s.take(o.token) {
			return o.op, true
		}
	}
	return 0, false
}

func ordered(op operator, a, b float64) bool {
	switch op {
	case equal:
		return a == b
	case notEqual:
		return a != b
	case less:
		return a < b
	case lessOrEqual:
		return a <= b
	case greater:
		return a > b
	default:
		return a >= b
	}
}

// number reads what the guide calls a number: decimal, with an optional sign
// and an optional exponent. ParseFloat knows more: names, hexadecimal digits
// and underscores.
func number(text string) (float64, bool) {
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && strings.IndexByte("+-.eE", c) < 0 {
			return 0, false
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// test is a condition on what a pattern looks at.
type test[T any] func(T) bool

// either reads conditions joined by || and &&, of which && binds closer, with
// parentheses.
func either[T any](s *scanner, leaf func() (test[T], error)) (test[T], error) {
	var any []test[T]
	for {
		t, err := both(s, leaf)
		if err != nil {
			return nil, err
		}
		any = append(any, t)
		if !s.take("||") {
			break
		}
	}
	if len(any) == 1 {
		return any[0], nil
	}
	return func(v T) bool {
		for _, t := range any {
			if t(v) {
				return true
			}
		}
		return false
	}, nil
}

func both[T any](s *scanner, leaf func() (test[T], error)) (test[T], error) {
	var all []test[T]
	for {
		t, err := single(s, leaf)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		if !s.take("&&") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return func(v T) bool {
		for _, t := range all {
			if !t(v) {
				return false
			}
		}
		return true
	}, nil
}

func single[T any](s *scanner, leaf func() (test[T], error)) (test[T], error) {
	if !s.take("(") {
		return leaf()
	}
	t, err := either(s, leaf)
	if err != nil {
		return nil, err
	}
	if !s.take(")") {
		return nil, invalid("a closing parenthesis is missing before '%s'", s.rest())
	}
	return t, nil
}
