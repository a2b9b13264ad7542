package expr

import (
	"slices"
	"strings"
)

// Search is the first argument of SEARCH: which metrics are meant.
//
//	{Namespace,Dimension,Dimension} word "exact word" MetricName="Errors" (a OR b) NOT c
//
// The part in braces is optional: with it, a metric must be of the namespace
// and have exactly these dimensions. Terms side by side must all hold.
type Search struct {
	schema     bool
	namespace  string
	dimensions []string // sorted
	terms      *term    // nil holds always
}

// term is a condition on a metric.
type term struct {
	op    string // "and", "or", "not", "word"
	args  []*term
	field string // "" means any
	word  string
	exact bool
}

// Metric is a metric as searches see it.
type Metric struct {
	Namespace, Name string
	Dimensions      map[string]string
}

// ParseSearch reads a search.
func ParseSearch(src string) (*Search, error) {
	s := &Search{}
	src = strings.TrimSpace(src)
	if rest, ok := strings.CutPrefix(src, "{"); ok {
		inside, after, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, fault("the { of the search is not closed")
		}
		names := strings.Split(inside, ",")
		for i, name := range names {
			name = strings.Trim(strings.TrimSpace(name), `"`)
			if name == "" {
				return nil, fault("an empty name stands between the braces of the search")
			}
			names[i] = name
		}
		s.schema, s.namespace, s.dimensions = true, names[0], names[1:]
		slices.Sort(s.dimensions)
		src = after
	}
	p := &searchParser{in: searchWords(src)}
	if len(p.in) == 0 {
		if !s.schema {
			return nil, fault("the search is empty")
		}
		return s, nil
	}
	var err error
	if s.terms, err = p.or(); err != nil {
		return nil, err
	}
	if len(p.in) > 0 {
		return nil, fault("%q is not expected in the search", p.in[0])
	}
	return s, nil
}

// searchWords splits at blanks outside of quotes, and before and after
// parentheses.
func searchWords(src string) []string {
	var out []string
	word, quoted := strings.Builder{}, false
	end := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	for _, c := range src {
		switch {
		case c == '"':
			quoted = !quoted
			word.WriteRune(c)
		case !quoted && (c == '(' || c == ')'):
			end()
			out = append(out, string(c))
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			end()
		default:
			word.WriteRune(c)
		}
	}
	end()
	return out
}

type searchParser struct{ in []string }

func (p *searchParser) or() (*term, error) {
	out := &term{op: "or"}
	for {
		t, err := p.and()
		if err != nil {
			return nil, err
		}
		out.args = append(out.args, t)
		if len(p.in) == 0 || p.in[0] != "OR" {
			return out, nil
		}
		p.in = p.in[1:]
	}
}

func (p *searchParser) and() (*term, error) {
	out := &term{op: "and"}
	for len(p.in) > 0 && p.in[0] != "OR" && p.in[0] != ")" {
		if p.in[0] == "AND" {
			p.in = p.in[1:]
			continue
		}
		t, err := p.one()
		if err != nil {
			return nil, err
		}
		out.args = append(out.args, t)
	}
	if len(out.args) == 0 {
		return nil, fault("a term of the search is missing")
	}
	return out, nil
}

func (p *searchParser) one() (*term, error) {
	word := p.in[0]
	p.in = p.in[1:]
	switch {
	case word == "NOT":
		if len(p.in) == 0 {
			return nil, fault("the search ends after NOT")
		}
		t, err := p.one()
		return &term{op: "not", args: []*term{t}}, err
	case word == "(":
		t, err := p.or()
		if err != nil {
			return nil, err
		}
		if len(p.in) == 0 || p.in[0] != ")" {
			return nil, fault("a parenthesis of the search is not closed")
		}
		p.in = p.in[1:]
		return t, nil
	case word == ")":
		return nil, fault("a parenthesis of the search was not opened")
	case strings.Count(word, `"`)%2 != 0:
		return nil, fault("a quote of the search is not closed")
	}
	if !strings.HasPrefix(word, `"`) {
		if field, value, ok := strings.Cut(word, "="); ok {
			if field == ":aws.AccountId" {
				return nil, fault("SEARCH by :aws.AccountId is not served by firn")
			}
			if value == "" && len(p.in) > 0 && p.in[0] == "(" {
				return p.fieldGroup(field)
			}
			return newTerm(field, value), nil
		}
	}
	return newTerm("", word), nil
}

// fieldGroup is field=(a OR b).
func (p *searchParser) fieldGroup(field string) (*term, error) {
	t, err := p.one()
	if err != nil {
		return nil, err
	}
	t.under(field)
	return t, nil
}

func (t *term) under(field string) {
	if t.op == "word" && t.field == "" {
		t.field = field
	}
	for _, a := range t.args {
		a.under(field)
	}
}

func newTerm(field, value string) *term {
	bare := strings.Trim(value, `"`)
	return &term{op: "word", field: strings.Trim(field, `"`), word: bare, exact: bare != value}
}

// Matches says that a metric is found.
func (s *Search) Matches(m *Metric) bool {
	if s.schema {
		if m.Namespace != s.namespace || len(m.Dimensions) != len(s.dimensions) {
			return false
		}
		for _, name := range s.dimensions {
			if _, ok := m.Dimensions[name]; !ok {
				return false
			}
		}
	}
	return s.terms == nil || s.terms.holds(m)
}

func (t *term) holds(m *Metric) bool {
	switch t.op {
	case "and":
		return !slices.ContainsFunc(t.args, func(a *term) bool { return !a.holds(m) })
	case "or":
		return slices.ContainsFunc(t.args, func(a *term) bool { return a.holds(m) })
	case "not":
		return !t.args[0].holds(m)
	}
	switch t.field {
	case "MetricName":
		return t.fits(m.Name)
	case "Namespace":
		return t.fits(m.Namespace)
	case "":
		if t.fits(m.Name) || t.fits(m.Namespace) {
			return true
		}
		for name, value := range m.Dimensions {
			if t.fits(name) || t.fits(value) {
				return true
			}
		}
		return false
	}
	value, ok := m.Dimensions[t.field]
	return ok && t.fits(value)
}

// fits compares a word: quoted ones with the whole value, others with its
// parts without regard to case.
func (t *term) fits(value string) bool {
	if t.exact {
		return value == t.word
	}
	return strings.Contains(squeeze(value), squeeze(t.word))
}

// squeeze is what remains of a text when words are compared: letters and
// digits in lower case.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'A' <= r && r <= 'Z':
			return r | 0x20
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r > 0x7f:
			return r
		}
		return -1
	}, s)
}
