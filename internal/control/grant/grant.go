// Package grant keeps the resource policies of functions and layer versions:
// lists of Allow statements that are added and removed by name, and read by
// everybody as one document of the policy language.
//
// A Policy is immutable and survives JSON in the form that it has in the API.
package grant

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/firn-run/firn/internal/policy"
)

// Statement is one permission, in the form of the API.
type Statement struct {
	Sid       string                       `json:"Sid"`
	Effect    policy.Effect                `json:"Effect"`
	Principal json.RawMessage              `json:"Principal"`
	Action    string                       `json:"Action"`
	Resource  string                       `json:"Resource"`
	Condition map[string]map[string]string `json:"Condition,omitempty"`
}

// New makes a statement that allows action on resource to a principal; see
// Principal. There are no conditions yet.
func New(sid, action, resource string, principal json.RawMessage) *Statement {
	return &Statement{Sid: sid, Effect: policy.Allow, Principal: principal, Action: action, Resource: resource}
}

// Require adds a condition, unless value is empty.
func (s *Statement) Require(operator, key, value string) {
	if value == "" {
		return
	}
	if s.Condition == nil {
		s.Condition = map[string]map[string]string{}
	}
	if s.Condition[operator] == nil {
		s.Condition[operator] = map[string]string{}
	}
	s.Condition[operator][key] = value
}

// String is the statement as AddPermission answers it.
func (s *Statement) String() string {
	return compact(s)
}

// ErrPrincipal: a name that is none of the forms of a principal.
var ErrPrincipal = errors.New("is neither an account, an ARN, a service nor *")

// The forms of a principal.
var (
	account = regexp.MustCompile(`^\d{12}$`)
	arn     = regexp.MustCompile(`^arn:[a-z-]+:(?:iam|sts)::\d{12}:[^*?\s]+$`)
	service = regexp.MustCompile(`^[a-z0-9.-]+\.(?:amazonaws\.com|amazonaws\.com\.cn|amazon\.com|alexa\.com)$`)
)

// Principal writes a principal as statements have it: everybody, an account
// (which becomes its root's ARN), an ARN of IAM or STS, or a service.
func Principal(name string) (json.RawMessage, error) {
	var form any
	switch {
	case name == "*":
		form = name
	case account.MatchString(name):
		form = map[string]string{"AWS": "arn:aws:iam::" + name + ":root"}
	case arn.MatchString(name):
		form = map[string]string{"AWS": name}
	case service.MatchString(name):
		form = map[string]string{"Service": name}
	default:
		return nil, fmt.Errorf("%q %w", name, ErrPrincipal)
	}
	return json.Marshal(form)
}

// Policy is a resource's statements, as they were written. The zero Policy and
// nil have none.
type Policy struct {
	Version    string            `json:"Version"`
	ID         string            `json:"Id,omitempty"`
	Statements []json.RawMessage `json:"Statement"`

	// Revision names this state of the policy; "" for one that was kept before
	// policies had revisions of their own. It is no part of the document.
	Revision string `json:"-"`

	document *policy.Document
}

// kept is a Policy as it is stored.
type kept struct {
	*document
	Revision string `json:"RevisionId,omitempty"`
}

// document is a Policy without its methods.
type document Policy

// MarshalJSON implements json.Marshaler: the document, and its revision.
func (p *Policy) MarshalJSON() ([]byte, error) {
	return []byte(compact(kept{(*document)(p), p.Revision})), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Policy) UnmarshalJSON(text []byte) error {
	k := kept{document: (*document)(p)}
	err := json.Unmarshal(text, &k)
	p.Revision = k.Revision
	return err
}

// Read makes a policy of a whole document, which may have statements that no
// With could add.
func Read(text string) (*Policy, error) {
	if len(text) > policy.MaxBytes {
		return nil, &TooLongError{len(text)}
	}
	document, err := policy.Parse(policy.Resource, []byte(text))
	if err != nil {
		return nil, err
	}
	var parts struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return nil, err
	}
	p := &Policy{Version: document.Version, ID: document.ID, Statements: []json.RawMessage{parts.Statement}}
	if parts.Statement[0] == '[' {
		if err := json.Unmarshal(parts.Statement, &p.Statements); err != nil {
			return nil, err
		}
	}
	return p, p.Open()
}

// Errors of With and Without.
var (
	ErrExists  = errors.New("a statement of that name exists")
	ErrMissing = errors.New("there is no statement of that name")
)

// TooLongError says that a policy would be longer than policy.MaxBytes.
type TooLongError struct{ Size int }

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the policy would have %d bytes, at most %d", e.Size, policy.MaxBytes)
}

// With returns a policy that has one statement more.
func (p *Policy) With(s *Statement) (*Policy, error) {
	next := &Policy{Version: "2012-10-17", ID: "default"}
	if p != nil {
		next.Version, next.ID, next.Statements = p.Version, p.ID, slices.Clone(p.Statements)
	}
	if p.index(s.Sid) >= 0 {
		return nil, ErrExists
	}
	next.Statements = append(next.Statements, json.RawMessage(s.String()))
	return next, next.Open()
}

// Without returns a policy without a statement; nil when it was the last.
func (p *Policy) Without(sid string) (*Policy, error) {
	i := p.index(sid)
	if i < 0 {
		return nil, ErrMissing
	}
	if len(p.Statements) == 1 {
		return nil, nil
	}
	next := &Policy{Version: p.Version, ID: p.ID, Statements: slices.Delete(slices.Clone(p.Statements), i, i+1)}
	return next, next.Open()
}

func (p *Policy) index(sid string) int {
	if p == nil || p.document == nil {
		return -1
	}
	return slices.IndexFunc(p.document.Statements, func(s policy.Statement) bool { return s.Sid == sid })
}

// Open makes a policy ready that was read from JSON.
func (p *Policy) Open() error {
	text := p.String()
	if len(text) > policy.MaxBytes {
		return &TooLongError{len(text)}
	}
	document, err := policy.Parse(policy.Resource, []byte(text))
	if err != nil {
		return err
	}
	p.document = document
	return nil
}

// String is the document as GetPolicy answers it.
func (p *Policy) String() string {
	return compact((*document)(p))
}

// compact is v as JSON on one line, without escapes that only HTML needs.
func compact(v any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("policy: %v", err)) // strings, and JSON that was parsed
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Documents are what the evaluator reads; none of nil.
func (p *Policy) Documents() []*policy.Document {
	if p == nil || p.document == nil {
		return nil
	}
	return []*policy.Document{p.document}
}
