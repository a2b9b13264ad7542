package logpattern

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// value is the right side of a comparison.
type value struct {
	text   string
	quoted bool
	regex  *regexp.Regexp // or nil

	number  float64
	numeric bool // number is valid: digits without quotes

	// An asterisk at the start or the end stands for any text; inside it is
	// an asterisk ("Ev*ent will only match the actual string Ev*ent").
	open, tail bool
	core       string // the text without them
}

// value reads the right side of op.
func (s *scanner) value(op operator) (*value, error) {
	s.space()
	v := &value{}
	var err error
	switch {
	case s.end():
		return nil, invalid("a value is missing at the end")
	case s.at("%"):
		v.regex, err = s.regex()
	case s.at(`"`):
		v.quoted = true
		v.text, err = s.quoted()
	default:
		start := s.pos
		v.text = s.run(valueByte)
		if !s.end() && notBoundary(s.src[s.pos]) {
			s.run(notBoundary)
			return nil, badTerm(s.src[start:s.pos])
		}
		if v.text == "" {
			return nil, invalid("a value is missing before '%s'", s.rest())
		}
		v.number, v.numeric = number(v.text)
	}
	if err != nil {
		return nil, err
	}
	if op != equal && op != notEqual && !v.numeric {
		return nil, invalid("only numbers can be compared with <, <=, > and >=")
	}
	v.core, v.open = strings.CutPrefix(v.text, "*")
	v.core, v.tail = strings.CutSuffix(v.core, "*")
	v.tail = v.tail || v.text == "*"
	return v, nil
}

// is reports whether a text equals the value, with its asterisks or as its
// regular expression.
func (v *value) is(text string) bool {
	switch {
	case v.regex != nil:
		return v.regex.MatchString(text)
	case v.open && v.tail:
		return strings.Contains(text, v.core)
	case v.open:
		return strings.HasSuffix(text, v.core)
	case v.tail:
		return strings.HasPrefix(text, v.core)
	default:
		return text == v.text
	}
}

// maxProgram bounds a compiled regular expression, in instructions: matching
// takes time proportional to it, and repetitions multiply it.
const maxProgram = 500

// regex reads a regular expression between percent signs.
func (s *scanner) regex() (*regexp.Regexp, error) {
	for i := s.pos + 1; i < len(s.src); i++ {
		switch s.src[i] {
		case '\\':
			i++
		case '%':
			body := s.src[s.pos+1 : i]
			s.pos = i + 1
			s.regexes++
			return compile(body)
		}
	}
	return nil, invalid("the regular expression %s has no closing percent sign", s.rest())
}

// compile checks an expression against AWS's subset, which is one of Go's too.
func compile(body string) (*regexp.Regexp, error) {
	if body == "" {
		return nil, invalid("a regular expression is empty")
	}
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c == '\\' {
			i++
			if !escape(body[i:]) {
				return nil, invalid("the escape sequence at '%s' of a regular expression is not supported", body[i-1:])
			}
			continue
		}
		if !letterOrDigit(c) && strings.IndexByte(":_#=@/;,-^$?[]{}|*+.", c) < 0 {
			return nil, invalid("the character '%s' is not supported in a regular expression", firstRune(body[i:]))
		}
	}
	tree, err := syntax.Parse(body, syntax.Perl)
	if err != nil {
		return nil, invalid("the regular expression %%%s%% is not valid", body)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > maxProgram {
		return nil, invalid("the regular expression %%%s%% is too large", body)
	}
	re, err := regexp.Compile(body)
	if err != nil {
		return nil, invalid("the regular expression %%%s%% is not valid", body)
	}
	return re, nil
}

// escape reports whether what follows a backslash is supported: a class, two
// hexadecimal digits, or punctuation that stands for itself.
func escape(rest string) bool {
	if rest == "" {
		return false
	}
	c := rest[0]
	switch {
	case strings.IndexByte("dDsSwW", c) >= 0:
		return true
	case c == 'x':
		return len(rest) >= 3 && hexadecimal(rest[1]) && hexadecimal(rest[2])
	default:
		return c > ' ' && c < 0x7f && !letterOrDigit(c)
	}
}

func hexadecimal(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func firstRune(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}
