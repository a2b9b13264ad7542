package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// MaxBytes bounds a document: the limit of a function's resource policy
// ("Lambda quotas": 20 KB), and more than IAM takes of any other kind.
const MaxBytes = 20 << 10

// Kind says where a document is attached, which decides what it must have.
type Kind int

// The kinds of documents.
const (
	Identity Kind = iota // no principals; resources
	Resource             // principals and resources
	Trust                // principals; no resources: it is about its role
)

const (
	version2012  = "2012-10-17"
	version2008  = "2008-10-17"
	operatorNull = "null"
	forAllValues = "ForAllValues"
	forAnyValue  = "ForAnyValue"
)

// Parse reads a document and checks what IAM checks when a policy is stored.
// The error says where in the document it does not hold.
func Parse(kind Kind, raw []byte) (*Document, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("policy of %d bytes, at most %d", len(raw), MaxBytes)
	}
	members, err := object(raw)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	doc := &Document{Version: version2008}
	var statements []json.RawMessage
	for _, m := range members {
		switch m.name {
		case "Version":
			err = m.text(&doc.Version)
			if err == nil && doc.Version != version2012 && doc.Version != version2008 {
				err = fmt.Errorf("version %q is neither %s nor %s", doc.Version, version2012, version2008)
			}
		case "Id":
			err = m.text(&doc.ID)
		case "Statement":
			statements, err = oneOrMore(m.value)
		default:
			err = errors.New("unknown element")
		}
		if err != nil {
			return nil, fmt.Errorf("policy: %s: %w", m.name, err)
		}
	}
	if len(statements) == 0 {
		return nil, errors.New("policy: Statement: there must be at least one")
	}
	for i, raw := range statements {
		s, err := parseStatement(kind, raw)
		if err != nil {
			return nil, fmt.Errorf("policy: statement %d: %w", i+1, err)
		}
		if s.Sid != "" && slices.ContainsFunc(doc.Statements, func(o Statement) bool { return o.Sid == s.Sid }) {
			return nil, fmt.Errorf("policy: statement %d: the Sid %q is not unique", i+1, s.Sid)
		}
		s.variables = doc.Version == version2012
		doc.Statements = append(doc.Statements, *s)
	}
	return doc, nil
}

// identitySid is what IAM takes as Sid; services take more.
var identitySid = regexp.MustCompile(`^[A-Za-z0-9]*$`)

func parseStatement(kind Kind, raw json.RawMessage) (*Statement, error) {
	members, err := object(raw)
	if err != nil {
		return nil, err
	}
	s := &Statement{}
	seen := map[string]bool{}
	for _, m := range members {
		element := strings.TrimPrefix(m.name, "Not")
		if seen[element] {
			return nil, fmt.Errorf("%s and Not%s exclude each other", element, element)
		}
		seen[element] = true
		if err := s.read(m); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	switch {
	case s.Effect == "":
		return nil, errors.New("the Effect is missing")
	case !seen["Action"]:
		return nil, errors.New("the Action is missing")
	case kind == Identity && seen["Principal"]:
		return nil, errors.New("a policy of an identity has no Principal")
	case kind != Identity && !seen["Principal"]:
		return nil, errors.New("the Principal is missing")
	case kind == Trust && seen["Resource"]:
		return nil, errors.New("a trust policy has no Resource")
	case kind != Trust && !seen["Resource"]:
		return nil, errors.New("the Resource is missing")
	case kind == Identity && !identitySid.MatchString(s.Sid):
		return nil, fmt.Errorf("the Sid %q has other characters than letters and digits", s.Sid)
	}
	return s, nil
}

// read takes over one element.
func (s *Statement) read(m member) (err error) {
	switch m.name {
	case "Sid":
		return m.text(&s.Sid)
	case "Effect":
		var text string
		err = m.text(&text)
		s.Effect = Effect(text)
		if err == nil && s.Effect != Allow && s.Effect != Deny {
			err = fmt.Errorf("%q is neither Allow nor Deny", text)
		}
	case "Principal", "NotPrincipal":
		s.NotPrincipal = m.name == "NotPrincipal"
		s.Principals, err = parsePrincipals(m.value)
	case "Action", "NotAction":
		s.NotAction = m.name == "NotAction"
		s.Actions, err = texts(m.value, checkAction)
	case "Resource", "NotResource":
		s.NotResource = m.name == "NotResource"
		s.Resources, err = texts(m.value, checkResource)
	case "Condition":
		s.Conditions, err = parseConditions(m.value)
	default:
		err = errors.New("unknown element")
	}
	return err
}

func parsePrincipals(raw json.RawMessage) (*Principals, error) {
	ps := &Principals{}
	if raw[0] == '"' {
		var star string
		if err := json.Unmarshal(raw, &star); err != nil || star != "*" {
			return nil, fmt.Errorf("%s is not \"*\"", raw)
		}
		ps.Any = true
		return ps, nil
	}
	members, err := object(raw)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, errors.New("nobody is named")
	}
	for _, m := range members {
		check := checkNonEmpty
		var list *[]string
		switch m.name {
		case "AWS":
			list, check = &ps.AWS, checkAWSPrincipal
		case "Service":
			list = &ps.Service
		case "Federated":
			list = &ps.Federated
		case "CanonicalUser":
			list = &ps.CanonicalUser
		default:
			return nil, fmt.Errorf("unknown kind %q", m.name)
		}
		if *list, err = texts(m.value, check); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return ps, nil
}

func parseConditions(raw json.RawMessage) ([]Condition, error) {
	byOperator, err := object(raw)
	if err != nil {
		return nil, err
	}
	known := operators()
	var out []Condition
	for _, m := range byOperator {
		cond := Condition{Operator: m.name}
		if set, rest, ok := strings.Cut(m.name, ":"); ok {
			if set != forAllValues && set != forAnyValue {
				return nil, fmt.Errorf("unknown operator %q", m.name)
			}
			cond.Set, cond.Operator = set, rest
		}
		name := strings.ToLower(cond.Operator)
		if rest, ok := strings.CutSuffix(name, "ifexists"); ok && rest != operatorNull {
			name, cond.IfExists = rest, true
			cond.Operator = cond.Operator[:len(rest)]
		}
		var ok bool
		if cond.test, ok = known[name]; !ok {
			return nil, fmt.Errorf("unknown operator %q", m.name)
		}
		if name == operatorNull {
			cond.Operator = operatorNull
		}
		keys, err := object(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		for _, k := range keys {
			one := cond
			one.Key = k.name
			if one.Values, err = scalars(k.value); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", m.name, k.name, err)
			}
			if one.Key == "" || len(one.Values) == 0 {
				return nil, fmt.Errorf("%s: key %q has no values or no name", m.name, k.name)
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// actionName is an action: everything, or a service's.
var actionName = regexp.MustCompile(`^(?:\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?:_-]+)$`)

func checkAction(s string) error {
	if !actionName.MatchString(s) {
		return fmt.Errorf("%q is not an action: SERVICE:NAME or *", s)
	}
	return nil
}

func checkResource(s string) error {
	if s == "*" || strings.HasPrefix(s, "arn:") && strings.Count(s, ":") >= arnParts-1 || strings.Contains(s, "*") || strings.HasPrefix(s, "${") {
		return nil
	}
	return fmt.Errorf("%q is not an ARN", s)
}

func checkNonEmpty(s string) error {
	if s == "" {
		return errors.New("an empty name")
	}
	return nil
}

// awsPrincipal is a principal of AWS: an account, or an ARN of IAM or STS; the
// identity of one that was deleted, too.
var awsPrincipal = regexp.MustCompile(`^(?:\*|\d{12}|arn:[a-z-]+:(?:iam|sts)::\d{12}:[^*?\s]+|A[A-Z0-9]{15,127})$`)

func checkAWSPrincipal(s string) error {
	if !awsPrincipal.MatchString(s) {
		return fmt.Errorf("%q is no principal: an account, an ARN without wildcards, or *", s)
	}
	return nil
}

// member is one member of a JSON object, as it was written.
type member struct {
	name  string
	value json.RawMessage
}

func (m member) text(dst *string) error {
	if m.value[0] != '"' {
		return errors.New("is not a string")
	}
	return json.Unmarshal(m.value, dst)
}

// object reads a JSON object and refuses a name that comes twice: which of
// two rules counts must not depend on the reader.
func object(raw []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	var out []member
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		m := member{name: t.(string)} // a name is always a string
		if err := d.Decode(&m.value); err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		if seen[m.name] {
			return nil, fmt.Errorf("%q stands there twice", m.name)
		}
		seen[m.name] = true
		out = append(out, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has something behind it")
	}
	return out, nil
}

// oneOrMore reads a list, or a single value as a list of one.
func oneOrMore(raw json.RawMessage) ([]json.RawMessage, error) {
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var list []json.RawMessage
	return list, json.Unmarshal(raw, &list)
}

// texts reads a string or a list of them; at least one.
func texts(raw json.RawMessage, check func(string) error) ([]string, error) {
	list, err := oneOrMore(raw)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("is empty")
	}
	out := make([]string, len(list))
	for i, raw := range list {
		if err := (member{value: raw}).text(&out[i]); err != nil {
			return nil, err
		}
		if err := check(out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// scalars reads the values of a condition: strings, numbers and truth values.
func scalars(raw json.RawMessage) ([]string, error) {
	list, err := oneOrMore(raw)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i, raw := range list {
		switch raw[0] {
		case '{', '[', 'n':
			return nil, fmt.Errorf("%s is not a string, number or truth value", raw)
		case '"':
			if err := json.Unmarshal(raw, &out[i]); err != nil {
				return nil, err
			}
		default:
			out[i] = string(raw)
		}
	}
	return out, nil
}
