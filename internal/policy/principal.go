package policy

import (
	"regexp"
	"strings"
)

// principalARN is what aws:PrincipalArn shows: of a role session the role.
// The path of the role is not in the session's name and therefore missing.
func (p *Principal) principalARN() string {
	if role, _, ok := sessionOf(p.ARN); ok {
		return role
	}
	return p.ARN
}

// kind is aws:PrincipalType.
func (p *Principal) kind() string {
	switch {
	case p.Root:
		return "Account"
	case p.Service != "":
		return "Service"
	case p.ARN == "":
		return "Anonymous"
	case strings.Contains(p.ARN, ":assumed-role/"):
		return "AssumedRole"
	case strings.Contains(p.ARN, ":federated-user/"):
		return "FederatedUser"
	}
	return "User"
}

// sessionName is the name of a role session.
var sessionName = regexp.MustCompile(`^arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/([^/]+)$`)

// sessionOf takes a session's ARN apart: the role's ARN without path, and its
// name.
func sessionOf(arn string) (role, name string, ok bool) {
	m := sessionName.FindStringSubmatch(arn)
	if m == nil {
		return "", "", false
	}
	return "arn:" + m[1] + ":iam::" + m[2] + ":role/" + m[3], m[3], true
}

// means says how the statement's principals mean p.
func (s *Statement) means(p *Principal) strength {
	if s.Principals == nil {
		return notMeant
	}
	how := s.Principals.mean(p)
	if !s.NotPrincipal {
		return how
	}
	if how == notMeant {
		return byGroup
	}
	return notMeant
}

// mean finds the closest way in which p is named.
func (ps *Principals) mean(p *Principal) strength {
	how := notMeant
	if ps.Any {
		how = byGroup
	}
	for _, name := range ps.AWS {
		how = max(how, meansAWS(name, p))
	}
	for _, named := range []struct {
		list []string
		who  string
	}{{ps.Service, p.Service}, {ps.Federated, p.Federated}, {ps.CanonicalUser, p.CanonicalUser}} {
		for _, name := range named.list {
			if named.who != "" && (name == named.who || name == "*") {
				how = byName
			}
		}
	}
	return how
}

func meansAWS(name string, p *Principal) strength {
	switch {
	case name == "*":
		return byGroup
	case p.ARN == "":
		return notMeant
	case name == p.ARN:
		return byName
	case accountOf(name) != "" && accountOf(name) == p.Account:
		return byAccount
	case isRoleOf(name, p.ARN):
		return byGroup
	}
	return notMeant
}

// isRoleOf reports whether a role's ARN, with or without a path, is that of a
// session.
func isRoleOf(role, session string) bool {
	bare, name, ok := sessionOf(session)
	if !ok {
		return false
	}
	prefix, _ := strings.CutSuffix(bare, name)
	rest, ok := strings.CutPrefix(role, prefix)
	return ok && (rest == name || strings.HasSuffix(rest, "/"+name))
}

// rootName is an account as a principal.
var rootName = regexp.MustCompile(`^(?:arn:[a-z-]+:iam::)?(\d{12})(:root)?$`)

// accountOf is the account that a principal stands for as a whole, or "".
func accountOf(name string) string {
	m := rootName.FindStringSubmatch(name)
	if m == nil || strings.HasPrefix(name, "arn:") != (m[2] != "") {
		return ""
	}
	return m[1]
}
