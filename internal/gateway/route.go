package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// PathPrefix is where URLs are served by path: PathPrefix + id + "/...". AWS
// has no such form.
const PathPrefix = "/.firn/url/"

// label is the second label of AWS's hosts of URLs.
const label = "lambda-url"

// maxID bounds identities of URLs; AWS's have 32 characters.
const maxID = 63

// Target is what a request for a URL names.
type Target struct {
	// ID is the URL's identity, in lower case; empty when the host or path has
	// the form of a URL and names none that could exist here.
	ID string
	// RawPath is the path that the function sees, as it was sent.
	RawPath string
	// Domain is the domain name of the URL, without a port.
	Domain string

	public bool // found by the operator's own domain
}

// domain is the operator's own.
type domain struct {
	name, scheme string
	// port is the one that FunctionUrl shows, "" for the scheme's; the
	// listener's own when listener is true.
	port     string
	listener bool
}

// CheckDomain reports what is wrong with a value of Config.Domain.
func CheckDomain(text string) error {
	_, err := parseDomain(text)
	return err
}

// parseDomain reads Config.Domain.
func parseDomain(text string) (domain, error) {
	if text == "" {
		return domain{}, nil
	}
	d := domain{scheme: "http"}
	host := text
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return domain{}, fmt.Errorf("domain of function URLs %q: want a name, or a URL with http or https, a name and a port", text)
		}
		d.scheme, host = u.Scheme, u.Host
	} else {
		d.listener = true
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	d.name = strings.ToLower(strings.Trim(name, "."))
	if port != "" {
		d.port, d.listener = port, false
	}
	if d.name == "" || strings.ContainsAny(d.name, "/:*@ ") || net.ParseIP(d.name) != nil {
		return domain{}, fmt.Errorf("domain of function URLs %q: not a domain name", text)
	}
	return d, nil
}

// Match reports whether a request is for a function URL, by its host or its
// path, and which. It decides before any other route of a listener.
func (g *Gateway) Match(r *http.Request) (Target, bool) {
	path := rawPath(r)
	if id, public, ok := g.matchHost(r.Host); ok {
		return Target{ID: id, RawPath: path, Domain: hostName(r.Host), public: public}, true
	}
	rest, ok := strings.CutPrefix(path, PathPrefix)
	if !ok {
		return Target{}, false
	}
	id, rest, _ := strings.Cut(rest, "/")
	t := Target{RawPath: "/" + rest}
	if isID(id) {
		t.ID = strings.ToLower(id)
	}
	t.Domain = t.ID + "." + label + "." + g.cfg.Region + ".localhost"
	return t, true
}

// matchHost finds the identity in a host; ok says that the host is one of
// URLs, and id is empty when it is of another region or malformed.
func (g *Gateway) matchHost(host string) (id string, public, ok bool) {
	name := hostName(host)
	first, rest, _ := strings.Cut(name, ".")
	if g.domain.name != "" && rest == g.domain.name {
		return checked(first), true, true
	}
	second, rest, _ := strings.Cut(rest, ".")
	if second != label {
		return "", false, false
	}
	region, suffix, _ := strings.Cut(rest, ".")
	public = g.domain.name != "" && suffix == g.domain.name
	if suffix != "localhost" && suffix != "on.aws" && !public {
		return "", false, false
	}
	if region != g.cfg.Region {
		return "", public, true
	}
	return checked(first), public, true
}

// hostName is a host without its port and final dot, in lower case.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func checked(id string) string {
	if isID(id) {
		return id
	}
	return ""
}

func isID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}

// rawPath is the path of a request as it came on the wire.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") {
		// The form with scheme and host, which proxies are sent, or a request
		// that no server has read.
		path = r.URL.EscapedPath()
	}
	if !strings.HasPrefix(path, "/") {
		return "/" + path
	}
	return path
}

// rawQuery is the query of a request as it came on the wire, without the
// question mark.
func rawQuery(r *http.Request) string {
	if _, query, ok := strings.Cut(r.RequestURI, "?"); ok {
		return query
	}
	return r.URL.RawQuery
}

// URLFor is what the API says of a URL: its FunctionUrl. The listener must be
// open.
func (g *Gateway) URLFor(id string) string {
	port := g.domain.port
	if g.domain.name == "" || g.domain.listener {
		if u, err := url.Parse(g.cfg.Endpoint()); err == nil && u.Port() != "80" {
			port = u.Port()
		}
	}
	if port != "" {
		port = ":" + port
	}
	if g.domain.name == "" {
		return "http://" + id + "." + label + "." + g.cfg.Region + ".localhost" + port + "/"
	}
	return g.domain.scheme + "://" + id + "." + g.domain.name + port + "/"
}
