// Package policy is AWS's policy language: it reads policy documents and
// decides requests by them.
//
// Parse turns a JSON document into statements and refuses what IAM would not
// store. Decide takes a request (who, which action, which resource, in which
// circumstances) and all the policies that bear on it, and answers as the page
// "Policy evaluation logic" of the IAM User Guide tells: a Deny that matches
// anywhere wins, organisation policies must allow at every level, then an
// Allow is needed, from the side of the principal, of the resource or of both,
// by whether they are of one account.
//
// The package is pure. It knows no service: condition keys, resources and
// actions are text to it, and who calls it says what is in the context of a
// request. Documents are hostile input; every step is bounded by the sizes of
// document and request.
package policy

import (
	"slices"
	"strings"

	"github.com/firn-run/firn"
)

// Effect is what a statement does when it matches.
type Effect string

// The two effects, as documents spell them.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a policy that was parsed. It is immutable.
type Document struct {
	Version    string // "2012-10-17" or "2008-10-17"; the latter when left out
	ID         string
	Statements []Statement
}

// Statement is one statement of a document.
type Statement struct {
	Sid    string
	Effect Effect
	// Principals is nil in policies of identities. NotPrincipal turns it round.
	Principals   *Principals
	NotPrincipal bool
	Actions      []string
	NotAction    bool
	// Resources is empty in trust policies: they are about the role itself.
	Resources   []string
	NotResource bool
	Conditions  []Condition

	variables bool // the document's version has policy variables
}

// Principals are whom a statement names.
type Principals struct {
	Any           bool // "*"
	AWS           []string
	Service       []string
	Federated     []string
	CanonicalUser []string
}

// Principal is who makes a request. The zero Principal is nobody in
// particular: a caller without credentials, whom only "*" means.
type Principal struct {
	// ARN is the user's, the root user's or the role session's name.
	ARN string
	// Account is the twelve digits of the account that the principal is of;
	// empty for services and strangers.
	Account string
	// Root is true for an account's root user: policies of identities do not
	// bind it.
	Root bool
	// Service is set instead of ARN for a service of AWS: "s3.amazonaws.com".
	Service string
	// Federated is the identity provider, in requests of web or SAML
	// identities that have no role yet.
	Federated string
	// CanonicalUser is the 64 digits under which S3 knows an account.
	CanonicalUser string
}

// PrincipalOf is the principal of a signed request.
func PrincipalOf(id firn.Identity) Principal {
	return Principal{ARN: id.ARN, Account: id.Account, Root: id.Root}
}

// Context holds the condition keys of a request and their values, by the
// keys' lower-case names: condition keys have no case. A key that is missing
// and one without values are the same.
type Context map[string][]string

// Set replaces the values of a key.
func (c Context) Set(key string, values ...string) { c[strings.ToLower(key)] = values }

// get returns the values of a key.
func (c Context) get(key string) []string { return c[strings.ToLower(key)] }

// Request is a question to Decide.
type Request struct {
	Principal Principal
	Action    string // "lambda:InvokeFunction"
	Resource  string // ARN
	// ResourceAccount is the account that owns the resource.
	ResourceAccount string
	// Context is what conditions and variables see, and aws:PrincipalArn,
	// aws:PrincipalAccount, aws:PrincipalType, aws:PrincipalIsAWSService,
	// aws:PrincipalServiceName and aws:ResourceAccount, which Decide derives
	// from the request itself whatever Context says of them.
	Context Context
}

// Policies are all policies that bear on a request. Nil is none.
type Policies struct {
	// Identity are attached to the principal or its groups.
	Identity []*Document
	// Resource are attached to the resource.
	Resource []*Document
	// Boundary bounds what Identity can give.
	Boundary *Document
	// Session bounds what a role session can do, if the caller gave one when
	// it assumed the role.
	Session []*Document
	// Organization are service control policies, level by level: some document
	// of every level must allow.
	Organization [][]*Document
}

// Outcome is the answer to a request.
type Outcome int

// The answers. Both denials mean no: an implicit one for lack of an Allow.
const (
	ImplicitDeny Outcome = iota
	Allowed
	ExplicitDeny
)

// String is the outcome in the words of IAM's policy simulator.
func (o Outcome) String() string {
	switch o {
	case Allowed:
		return "allowed"
	case ExplicitDeny:
		return "explicitDeny"
	}
	return "implicitDeny"
}

// Source says which policies decided.
type Source string

// The sources, in the words of AWS's messages of refusal.
const (
	FromIdentity     Source = "identity-based policy"
	FromResource     Source = "resource-based policy"
	FromBoundary     Source = "permissions boundary"
	FromSession      Source = "session policy"
	FromOrganization Source = "service control policy"
)

// Decision is an outcome and where it came from.
type Decision struct {
	Outcome Outcome
	// Source is where the deciding statement stands; for an implicit denial,
	// where an Allow was missing. It is empty where the root user's own right
	// decided.
	Source Source
	// Statement decided; nil for an implicit denial and for the root user.
	Statement *Statement
}

// strength says how a statement of a resource's policy means a principal.
type strength int

const (
	notMeant  strength = iota
	byAccount          // by its account: the account's own policies must agree
	byGroup            // by "*", or by the role of the session
	byName             // the user, the session, the service
)

// Decide answers req by the policies.
func Decide(req *Request, p Policies) Decision {
	r := *req
	r.Context = derived(req)
	if s, from := denial(&r, p); s != nil {
		return Decision{ExplicitDeny, from, s}
	}
	if !strangers(&r.Principal) {
		for _, level := range p.Organization {
			if allowing(&r, level) == nil {
				return Decision{ImplicitDeny, FromOrganization, nil}
			}
		}
	}
	granted, how := grant(&r, p.Resource)
	switch {
	case strangers(&r.Principal):
		return verdict(granted, FromResource)
	case r.Principal.Account != r.ResourceAccount:
		if granted == nil {
			return Decision{ImplicitDeny, FromResource, nil}
		}
		return ofIdentity(&r, p)
	case r.Principal.Root:
		return Decision{Outcome: Allowed}
	case how == byName:
		return verdict(granted, FromResource)
	case how == byGroup:
		// A boundary and a session policy bound what is given to a role.
		if d := bounded(&r, p); d.Outcome != Allowed {
			return d
		}
		return verdict(granted, FromResource)
	}
	return ofIdentity(&r, p)
}

// strangers are principals that no account's policies speak for: services and
// callers without credentials.
func strangers(p *Principal) bool { return p.Account == "" }

// denial finds a Deny that matches, anywhere.
func denial(r *Request, p Policies) (*Statement, Source) {
	var organization []*Document
	for _, level := range p.Organization {
		organization = append(organization, level...)
	}
	var boundary []*Document
	if p.Boundary != nil {
		boundary = []*Document{p.Boundary}
	}
	if !strangers(&r.Principal) {
		for _, place := range []struct {
			docs []*Document
			from Source
		}{{organization, FromOrganization}, {boundary, FromBoundary}, {p.Session, FromSession}, {p.Identity, FromIdentity}} {
			if s := first(r, place.docs, Deny); s != nil {
				return s, place.from
			}
		}
	}
	for _, doc := range p.Resource {
		for i := range doc.Statements {
			s := &doc.Statements[i]
			if s.Effect == Deny && s.means(&r.Principal) != notMeant && s.matches(r) {
				return s, FromResource
			}
		}
	}
	return nil, ""
}

// first finds a matching statement of an effect in policies of identities.
func first(r *Request, docs []*Document, effect Effect) *Statement {
	for _, doc := range docs {
		for i := range doc.Statements {
			if s := &doc.Statements[i]; s.Effect == effect && s.matches(r) {
				return s
			}
		}
	}
	return nil
}

func allowing(r *Request, docs []*Document) *Statement { return first(r, docs, Allow) }

// grant finds the Allow of the resource's policies that means the principal
// most closely.
func grant(r *Request, docs []*Document) (best *Statement, how strength) {
	for _, doc := range docs {
		for i := range doc.Statements {
			s := &doc.Statements[i]
			if s.Effect != Allow {
				continue
			}
			if h := s.means(&r.Principal); h > how && s.matches(r) {
				best, how = s, h
			}
		}
	}
	return best, how
}

// ofIdentity decides by what the principal itself may do.
func ofIdentity(r *Request, p Policies) Decision {
	if r.Principal.Root {
		return Decision{Outcome: Allowed}
	}
	s := allowing(r, p.Identity)
	if s == nil {
		return Decision{ImplicitDeny, FromIdentity, nil}
	}
	if d := bounded(r, p); d.Outcome != Allowed {
		return d
	}
	return Decision{Allowed, FromIdentity, s}
}

// bounded asks the policies that only bound.
func bounded(r *Request, p Policies) Decision {
	if p.Boundary != nil && allowing(r, []*Document{p.Boundary}) == nil {
		return Decision{ImplicitDeny, FromBoundary, nil}
	}
	if len(p.Session) > 0 && allowing(r, p.Session) == nil {
		return Decision{ImplicitDeny, FromSession, nil}
	}
	return Decision{Outcome: Allowed}
}

func verdict(s *Statement, from Source) Decision {
	if s == nil {
		return Decision{ImplicitDeny, from, nil}
	}
	return Decision{Allowed, from, s}
}

// derived is the context with the keys that only the request can tell.
func derived(req *Request) Context {
	c := make(Context, len(req.Context)+6)
	for key, values := range req.Context {
		c.Set(key, values...)
	}
	who := &req.Principal
	for key, value := range map[string]string{
		"aws:principalarn": who.principalARN(), "aws:principalaccount": who.Account,
		"aws:principalservicename": who.Service, "aws:principaltype": who.kind(),
		"aws:resourceaccount": req.ResourceAccount,
	} {
		if delete(c, key); value != "" {
			c[key] = []string{value}
		}
	}
	service := "false"
	if who.Service != "" {
		service = "true"
	}
	c["aws:principalisawsservice"] = []string{service}
	return c
}

// matches reports whether action, resource and circumstances are those of the
// statement.
func (s *Statement) matches(r *Request) bool {
	if s.hasAction(r.Action) == s.NotAction {
		return false
	}
	if len(s.Resources) > 0 && s.hasResource(r) == s.NotResource {
		return false
	}
	for i := range s.Conditions {
		if !s.Conditions[i].holds(r.Context, s.variables) {
			return false
		}
	}
	return true
}

func (s *Statement) hasAction(action string) bool {
	action = strings.ToLower(action)
	return slices.ContainsFunc(s.Actions, func(a string) bool { return plainGlob(strings.ToLower(a)).match(action) })
}

func (s *Statement) hasResource(r *Request) bool {
	return slices.ContainsFunc(s.Resources, func(pattern string) bool {
		g, ok := expand(pattern, r.Context, s.variables)
		return ok && g.match(r.Resource)
	})
}
