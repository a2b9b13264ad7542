// Package logpattern is the filter-pattern language of CloudWatch Logs: the
// patterns of FilterLogEvents, StartLiveTail and subscription filters.
//
// A pattern has one of three forms, told apart by its first character:
//
//	ERROR -"timed out"             terms in any message
//	[ip, ..., status=4*, bytes]    fields of a message that spaces separate
//	{ $.level = "error" && $.n>1 } properties of a message that is JSON
//
// In all of them %...% is a regular expression of AWS's subset. Parse compiles
// a pattern once, with every error that the API reports; Match and Extract
// then take time linear in the message: regular expressions run on Go's
// engine, which does not backtrack, and their size is bounded.
//
// The source is the page "Filter pattern syntax for metric filters,
// subscription filters, and Live Tail" of the CloudWatch Logs User Guide;
// where it says nothing the reading that was chosen stands at the code.
package logpattern

import (
	"fmt"
	"strings"
)

// MaxLength is how many bytes a pattern may have (API model, FilterPattern).
const MaxLength = 1024

// MaxRegexes is how many regular expressions a pattern of fields or properties
// may have ("Filter pattern syntax", quotas).
const MaxRegexes = 2

// Error says what is wrong with a pattern.
type Error struct {
	// Message is what CloudWatch Logs tells its caller, which is little for
	// most of what can be wrong.
	Message string
	// Detail is what it does not tell, or "".
	Detail string
}

// Error returns the message and the detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + ": " + e.Detail
}

// invalid makes the error for a pattern that is not of the language.
func invalid(format string, args ...any) *Error {
	return &Error{Message: "Invalid filter pattern", Detail: fmt.Sprintf(format, args...)}
}

// Pattern is a compiled pattern. It never changes and is safe for concurrent
// use.
type Pattern struct {
	text    string
	regexes int
	form    form
}

// form is one of the three forms of a pattern.
type form interface {
	match(message string) bool
	// extract returns what the pattern names in a message that it matches.
	extract(message string) map[string]string
}

// Parse compiles a pattern; the empty one matches everything. The error is an
// *Error.
func Parse(text string) (*Pattern, error) {
	if len(text) > MaxLength {
		return nil, invalid("it has %d bytes, and at most %d are allowed", len(text), MaxLength)
	}
	p := &Pattern{text: text}
	s := &scanner{src: strings.Trim(text, blanks)}
	var err error
	switch {
	case s.at("{"):
		p.form, err = parseProperties(s)
	case s.at("["):
		p.form, err = parseFields(s)
	default:
		p.form, err = parseTerms(s)
	}
	if err != nil {
		return nil, err
	}
	p.regexes = s.regexes
	return p, nil
}

// String returns the pattern as it was given to Parse.
func (p *Pattern) String() string { return p.text }

// Regexes is how many regular expressions the pattern has: a log group may
// have five patterns with any in its subscription filters.
func (p *Pattern) Regexes() int { return p.regexes }

// Match reports whether a message matches.
func (p *Pattern) Match(message string) bool { return p.form.match(message) }

// Extract returns what a pattern names in a message and whether the message
// matches: for fields "$name", or "$3" for the third field when it has no
// name; for properties the selectors, as "$.user.id"; for terms nothing.
func (p *Pattern) Extract(message string) (map[string]string, bool) {
	if !p.form.match(message) {
		return nil, false
	}
	return p.form.extract(message), true
}
