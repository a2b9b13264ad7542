package logpattern

import (
	"regexp"
	"strings"
)

// terms is the form without brackets or braces.
type terms struct {
	// every must be in the message, none of absent may be; any is for
	// patterns that have nothing but optional terms: beside others the guide
	// has optional terms ignored.
	every, any, absent []term
}

type term struct {
	text  string
	regex *regexp.Regexp // or nil
}

// in reports whether a message contains the term, also within a word: ERROR is
// in ERRORCODE.
func (t term) in(message string) bool {
	if t.regex != nil {
		return t.regex.MatchString(message)
	}
	return strings.Contains(message, t.text)
}

func parseTerms(s *scanner) (form, error) {
	f := &terms{}
	for s.space(); !s.end(); s.space() {
		list := &f.every
		switch {
		case s.take("-"):
			list = &f.absent
			s.space() // the guide has an example with a blank
		case s.take("?"):
			list = &f.any
		}
		t, err := parseTerm(s)
		if err != nil {
			return nil, err
		}
		if !s.end() && strings.IndexByte(blanks, s.src[s.pos]) < 0 {
			return nil, badTerm(s.run(func(c byte) bool { return strings.IndexByte(blanks, c) < 0 }))
		}
		// " " is how the guide writes a pattern that matches everything.
		if strings.Trim(t.text, blanks) == "" && t.regex == nil && list == &f.every {
			t.text = ""
		}
		*list = append(*list, t)
	}
	if len(f.every)+len(f.absent) > 0 {
		f.any = nil
	}
	return f, nil
}

func parseTerm(s *scanner) (term, error) {
	switch {
	case s.at(`"`):
		text, err := s.quoted()
		return term{text: text}, err
	case s.at("%"):
		re, err := s.regex()
		return term{regex: re}, err
	}
	start := s.pos
	text := s.run(func(c byte) bool { return letterOrDigit(c) || c == '_' })
	if text == "" || !s.end() && strings.IndexByte(blanks, s.src[s.pos]) < 0 {
		s.run(func(c byte) bool { return strings.IndexByte(blanks, c) < 0 })
		return term{}, badTerm(s.src[start:s.pos])
	}
	return term{text: text}, nil
}

func (f *terms) match(message string) bool {
	for _, t := range f.every {
		if !t.in(message) {
			return false
		}
	}
	for _, t := range f.absent {
		if t.in(message) {
			return false
		}
	}
	for _, t := range f.any {
		if t.in(message) {
			return true
		}
	}
	return len(f.any) == 0
}

func (f *terms) extract(string) map[string]string { return map[string]string{} }
