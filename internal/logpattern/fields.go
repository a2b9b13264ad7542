package logpattern

import (
	"strconv"
	"strings"
)

// fields is the form in square brackets. The ellipses of the pattern cut its
// fields into runs: the first is at the start of the message, the last at its
// end, and the others follow each other anywhere between.
type fields struct {
	runs [][]field
}

// field is one place of the pattern.
type field struct {
	name string       // or "": it has its number
	test test[string] // or nil: anything
}

func parseFields(s *scanner) (form, error) {
	if !strings.HasSuffix(s.src, "]") {
		return nil, &Error{Message: "If a filter pattern starts with '[' it must end with ']'"}
	}
	s.take("[")
	f := &fields{runs: make([][]field, 1)}
	if s.take("]") {
		return f, s.finish()
	}
	for {
		if s.take("...") {
			f.runs = append(f.runs, nil)
		} else {
			one, err := parseField(s)
			if err != nil {
				return nil, err
			}
			last := len(f.runs) - 1
			f.runs[last] = append(f.runs[last], one)
		}
		if s.take("]") {
			return f, s.finish()
		}
		if !s.take(",") {
			return nil, invalid("a comma or a closing bracket is missing before '%s'", s.rest())
		}
	}
}

// finish checks what only the whole pattern shows.
func (s *scanner) finish() error {
	s.space()
	if !s.end() {
		return invalid("there is more behind its end: '%s'", s.rest())
	}
	if s.regexes > MaxRegexes {
		return invalid("it has %d regular expressions, and at most %d are allowed", s.regexes, MaxRegexes)
	}
	return nil
}

// parseField reads a field, which may be empty: then it has a number only. All
// its conditions are about itself. They may write its name with other letter
// case, as in the guide's own [w1=ERROR || W1=WARNING, w2], but not another
// name: status_code = 4* && bytes > 1000 was refused.
func parseField(s *scanner) (field, error) {
	s.space()
	if s.at(",") || s.at("]") {
		return field{}, nil
	}
	var f field
	conditions := 0
	t, err := either(s, func() (test[string], error) {
		s.space()
		name := s.run(nameByte)
		if name == "" {
			return nil, invalid("the name of a field is missing before '%s'", s.rest())
		}
		if f.name == "" {
			f.name = name
		}
		if !strings.EqualFold(f.name, name) {
			return nil, invalid("a condition of the field %s is about %s", f.name, name)
		}
		op, ok := s.operator()
		if !ok {
			return func(string) bool { return true }, nil
		}
		conditions++
		v, err := s.value(op)
		if err != nil {
			return nil, err
		}
		return func(text string) bool { return v.compareField(op, text) }, nil
	})
	if err != nil {
		return field{}, err
	}
	if conditions > 0 {
		f.test = t
	}
	return f, nil
}

// compareField compares a field: as numbers where both are, and as text
// otherwise, which < and its kin never are.
func (v *value) compareField(op operator, text string) bool {
	if v.numeric {
		if n, ok := number(text); ok {
			return ordered(op, n, v.number)
		}
	}
	switch op {
	case equal:
		return v.is(text)
	case notEqual:
		return !v.is(text)
	default:
		return false
	}
}

// word is one field of a message: its text, and where it begins in the message.
type word struct {
	text  string
	start int
}

// words splits a message at blanks into at most limit words (0: all). What is
// between brackets or quotes is one word, without them. When the limit cuts,
// the last word is all that remains.
func words(message string, limit int) []word {
	var list []word
	for i := 0; ; {
		for i < len(message) && strings.IndexByte(blanks, message[i]) >= 0 {
			i++
		}
		if i == len(message) {
			return list
		}
		text, next := nextWord(message, i)
		if len(list)+1 == limit && strings.Trim(message[next:], blanks) != "" {
			return append(list, word{text: strings.TrimRight(message[i:], blanks), start: i})
		}
		list = append(list, word{text: text, start: i})
		i = next
	}
}

// nextWord returns the word that begins at i and where it ends.
func nextWord(message string, i int) (string, int) {
	closing := byte(0)
	switch message[i] {
	case '[':
		closing = ']'
	case '"':
		closing = '"'
	}
	if closing != 0 {
		if n := strings.IndexByte(message[i+1:], closing); n >= 0 {
			return message[i+1 : i+1+n], i + n + 2
		}
	}
	if n := strings.IndexAny(message[i:], blanks); n >= 0 {
		return message[i : i+n], i + n
	}
	return message[i:], len(message)
}

// words splits a message as the pattern needs it. Without an ellipsis the last
// field is all that remains: [w1=ERROR, w2] is about any message whose first
// word is ERROR.
func (f *fields) words(message string) []word {
	if len(f.runs) == 1 {
		return words(message, len(f.runs[0]))
	}
	return words(message, 0)
}

func (f *fields) match(message string) bool {
	if len(f.runs) == 1 && len(f.runs[0]) == 0 {
		return true // [] is no condition
	}
	_, ok := f.place(f.words(message))
	return ok
}

// place finds for every run where it begins. Taking the first place that fits
// is enough, since what stands between two runs does not matter.
func (f *fields) place(list []word) ([]int, bool) {
	first, last := f.runs[0], f.runs[len(f.runs)-1]
	at := make([]int, len(f.runs))
	if len(f.runs) == 1 {
		return at, len(list) == len(first) && fits(first, list)
	}
	end := len(list) - len(last)
	if len(first) > end || !fits(first, list) || !fits(last, list[end:]) {
		return nil, false
	}
	at[len(at)-1] = end
	next := len(first)
	for i, run := range f.runs[1 : len(f.runs)-1] {
		for next+len(run) <= end && !fits(run, list[next:]) {
			next++
		}
		if next+len(run) > end {
			return nil, false
		}
		at[i+1] = next
		next += len(run)
	}
	return at, true
}

func fits(run []field, list []word) bool {
	for i, f := range run {
		if f.test != nil && !f.test(list[i].text) {
			return false
		}
	}
	return true
}

func (f *fields) extract(message string) map[string]string {
	list := f.words(message)
	values := make(map[string]string, len(list))
	names := make([]string, len(list))
	if at, ok := f.place(list); ok { // [] has no place
		for i, run := range f.runs {
			for j, one := range run {
				names[at[i]+j] = one.name
			}
		}
	}
	for i, w := range list {
		name := names[i]
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		values["$"+name] = w.text
	}
	return values
}
