package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/invoke"
)

// Event is the request in payload format 2.0 ("Invoking Lambda function URLs",
// request payload format). Members that function URLs do not use are absent,
// as in recorded events.
type Event struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        RequestContext    `json:"requestContext"`
	Body                  string            `json:"body,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
}

// RequestContext is what is known of a request besides HTTP.
type RequestContext struct {
	AccountID    string      `json:"accountId"`
	APIID        string      `json:"apiId"`
	Authorizer   *Authorizer `json:"authorizer,omitempty"` // with AuthType AWS_IAM
	DomainName   string      `json:"domainName"`
	DomainPrefix string      `json:"domainPrefix"`
	HTTP         HTTPContext `json:"http"`
	RequestID    string      `json:"requestId"`
	RouteKey     string      `json:"routeKey"`
	Stage        string      `json:"stage"`
	Time         string      `json:"time"` // 12/Mar/2020:19:03:58 +0000
	TimeEpoch    int64       `json:"timeEpoch"`
}

// HTTPContext is the request line and who sent it.
type HTTPContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// Authorizer holds the identity that a signature proved.
type Authorizer struct {
	IAM IAM `json:"iam"`
}

// IAM is an identity in the terms of IAM.
type IAM struct {
	AccessKey       string  `json:"accessKey"`
	AccountID       string  `json:"accountId"`
	CallerID        string  `json:"callerId"`
	CognitoIdentity *string `json:"cognitoIdentity"` // always null
	PrincipalOrgID  *string `json:"principalOrgId"`  // always null
	UserARN         string  `json:"userArn"`
	UserID          string  `json:"userId"`
}

// placeholder is what function URLs write where other APIs have routes and
// stages.
const placeholder = "$default"

// anonymous is the account of requests that nobody signed, as in recorded
// events; the documents say that the owner's account stands there.
const anonymous = "anonymous"

// payload is an event ready to be sent.
type payload struct {
	json  []byte
	trace string // X-Amzn-Trace-Id: the caller's, or a new one
}

// event makes the function's event of a request. The error is a Fault for a
// request that makes too large an event.
func (x *exchange) event() (payload, error) {
	trace := x.r.Header.Get("X-Amzn-Trace-Id")
	if trace == "" {
		trace = invoke.NewTrace(x.start)
	}
	source := sourceIP(x.r)
	e := Event{
		Version: "2.0", RouteKey: placeholder, RawPath: x.target.RawPath, RawQueryString: rawQuery(x.r),
		Cookies: cookies(x.r.Header), Headers: x.eventHeaders(trace, source),
		RequestContext: RequestContext{
			AccountID: anonymous, APIID: x.url.ID, DomainName: x.target.Domain, DomainPrefix: x.url.ID,
			HTTP: HTTPContext{
				Method: x.r.Method, Path: decodedPath(x.target.RawPath), Protocol: x.r.Proto,
				SourceIP: source, UserAgent: x.r.UserAgent(),
			},
			RequestID: x.id, RouteKey: placeholder, Stage: placeholder,
			Time: x.start.UTC().Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: x.start.UnixMilli(),
		},
	}
	e.QueryStringParameters = parameters(e.RawQueryString)
	if x.url.Auth == AuthIAM {
		e.RequestContext.AccountID = x.g.cfg.Account
		e.RequestContext.Authorizer = &Authorizer{IAM: iamOf(x.caller)}
	}
	if len(x.body) > 0 {
		e.IsBase64Encoded = !isText(x.r.Header, x.body)
		if e.IsBase64Encoded {
			e.Body = base64.StdEncoding.EncodeToString(x.body)
		} else {
			e.Body = string(x.body)
		}
	}
	var buf bytes.Buffer
	buf.Grow(len(e.Body) + len(e.Body)/16 + 4096)
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return payload{}, fmt.Errorf("encode the event: %w", err) // no value of these types fails
	}
	out := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(out) > firn.MaxPayloadBytes {
		return payload{}, tooLarge()
	}
	return payload{json: out, trace: trace}, nil
}

// tooLarge is the answer to a request over the limit of an invocation.
func tooLarge() *firn.Fault {
	return firn.Faultf(firn.RequestEntityTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", 6*firn.MiB)
}

// eventHeaders are the headers in lower case, values of one name joined by
// commas, with those that AWS's front adds. Headers of the connection stay
// behind. Cookies are there as well as in the event's own list: so they come
// from function URLs, unlike from API Gateway.
func (x *exchange) eventHeaders(trace, source string) map[string]string {
	in := x.r.Header
	out := make(map[string]string, len(in)+8)
	for name, values := range in {
		lower := strings.ToLower(name)
		if ofConnection(lower) || namedByConnection(in, lower) {
			continue
		}
		separator := ","
		if lower == "cookie" {
			separator = "; "
		}
		out[lower] = strings.Join(values, separator)
	}
	out["host"] = x.r.Host
	if _, ok := out["content-length"]; ok || len(x.body) > 0 {
		out["content-length"] = strconv.Itoa(len(x.body))
	}
	out["x-amzn-trace-id"] = trace
	out["x-forwarded-for"] = source
	if before := strings.Join(in["X-Forwarded-For"], ", "); before != "" {
		out["x-forwarded-for"] = before + ", " + source
	}
	out["x-forwarded-proto"], out["x-forwarded-port"] = x.origin()
	return out
}

// origin is how the client reached the URL: scheme and port.
func (x *exchange) origin() (scheme, port string) {
	scheme = "http"
	if x.r.TLS != nil || x.target.public && x.g.domain.scheme == "https" {
		scheme = "https"
	}
	_, port, err := net.SplitHostPort(x.r.Host)
	switch {
	case err == nil && port != "":
	case scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return scheme, port
}

// ofConnection reports whether a header is about one connection and not about
// the request (RFC 9110, section 7.6.1). names are in lower case.
func ofConnection(lower string) bool {
	switch lower {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// namedByConnection reports whether the Connection header lists another.
func namedByConnection(h http.Header, lower string) bool {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), lower) {
				return true
			}
		}
	}
	return false
}

// cookies are the pairs of all Cookie headers, as they were sent.
func cookies(h http.Header) []string {
	var out []string
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if pair = strings.TrimSpace(pair); pair != "" {
				out = append(out, pair)
			}
		}
	}
	return out
}

// parameters decodes a query; values of one name are joined by commas in their
// order. What cannot be decoded stays as it was sent.
func parameters(query string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if before, ok := out[name]; ok {
			value = before + "," + value
		}
		out[name] = value
	}
	return out
}

// decodedPath is a path without its escapes: so the request's context has it,
// as recorded, while rawPath keeps them. What cannot be decoded stays.
func decodedPath(raw string) string {
	if decoded, err := url.PathUnescape(raw); err == nil {
		return decoded
	}
	return raw
}

func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// isText decides whether a body is sent as text. AWS publishes no list; these
// types were found by trying: text, JSON, XML and JavaScript, and nothing
// without a type. A body with an encoding is never text, and neither is one
// that is not UTF-8, since it would not survive.
func isText(h http.Header, body []byte) bool {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(h.Get("Content-Type"), ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	switch {
	case strings.HasPrefix(kind, "text/"), strings.HasSuffix(kind, "+json"), strings.HasSuffix(kind, "+xml"),
		slices.Contains([]string{"application/json", "application/xml", "application/javascript"}, kind):
		return utf8.Valid(body)
	}
	return false
}

// sourceIP is the address of the immediate peer.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	host, _, _ = strings.Cut(host, "%") // the zone of a link-local address is ours
	return host
}

// iamOf tells of an identity what the event has. The unique identities that
// IAM gives to roles are made of their names here.
func iamOf(id firn.Identity) IAM {
	user := id.Account
	if _, name, ok := strings.Cut(id.ARN, ":assumed-role/"); ok {
		role, session, _ := strings.Cut(name, "/")
		user = uniqueID("AROA", id.Account+"/"+role) + ":" + session
	} else if _, name, ok := strings.Cut(id.ARN, ":user/"); ok {
		user = uniqueID("AIDA", id.Account+"/"+name)
	}
	return IAM{AccessKey: id.AccessKeyID, AccountID: id.Account, CallerID: user, UserARN: id.ARN, UserID: user}
}

// uniqueID has the form of IAM's: a prefix and 17 characters.
func uniqueID(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}
