package telemetryapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The limits of section 3.2. Outside of them is an error, never clamped.
const (
	minTimeoutMs, maxTimeoutMs, defaultTimeoutMs = 25, 30_000, 1_000
	minMaxBytes, maxMaxBytes, defaultMaxBytes    = 262_144, 1_048_576, 262_144
	minMaxItems, maxMaxItems, defaultMaxItems    = 1_000, 10_000, 10_000

	// runtimeAPIPort is where the Runtime API listens; no listener can.
	runtimeAPIPort = 9001
	// maxURI bounds what a delivery's request line can grow to.
	maxURI = 2048
	// maxEcho bounds what an error message repeats of a request.
	maxEcho = 64
)

// schema is a schema version. Their order is that of their age.
type schema int

const (
	logs2020 schema = iota
	logs2021
	telemetry202207
	telemetry202212
	telemetry2025
)

// schemas are the versions by their names, per API.
func schemas(api API) (names []string, first schema) {
	if api == Logs {
		return []string{"2020-08-15", "2021-03-18"}, logs2020
	}
	return []string{"2022-07-01", "2022-12-13", "2025-01-29"}, telemetry202207
}

// streams is a set of the three kinds of records.
type streams uint8

const (
	streamPlatform streams = 1 << iota
	streamFunction
	streamExtension
)

// destination is where records go; it tells a repeated subscription from a
// second one. Both names of the host mean the same address.
type destination struct {
	tcp    bool
	port   int
	target string // path and query of the request line
}

// settings is a subscription as asked for.
type settings struct {
	api      API
	schema   schema
	streams  streams
	types    []string // as sent
	to       destination
	method   string
	host     string // of the Host header, with the port
	timeout  time.Duration
	maxBytes int
	maxItems int
}

func (s *settings) equal(o *settings) bool {
	return s.api == o.api && s.schema == o.schema && slices.Equal(s.types, o.types) && s.to == o.to &&
		s.method == o.method && s.host == o.host && s.timeout == o.timeout &&
		s.maxBytes == o.maxBytes && s.maxItems == o.maxItems
}

// refusal is an error of the API before it has its prefix.
type refusal struct {
	status  int
	kind    string // "ValidationError", "AccessDenied", ...
	message string
}

func accepted() Answer { return Answer{Status: 200, Body: []byte(`"OK"`)} }

// answer writes a refusal in the words of its API: all types but the Telemetry
// API's ValidationError carry the API's name.
func (r *refusal) answer(api API) Answer {
	kind := r.kind
	switch {
	case api == Logs:
		kind = "Logs." + kind
	case kind != "ValidationError":
		kind = "Telemetry." + kind
	}
	body, err := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{kind, r.message})
	if err != nil {
		panic("telemetryapi: two strings cannot be encoded")
	}
	return Answer{Status: r.status, Body: body}
}

func closedRefusal(api API) *refusal {
	name := "Telemetry API"
	if api == Logs {
		name = "Logs API"
	}
	return &refusal{403, "SubscriptionClosed", name + " subscription is closed already"}
}

// parseRequest reads the body of a subscription. Faults of the values are told
// together; a body that is no request at all, or a destination outside of the
// environment, is told alone.
func parseRequest(api API, body []byte) (settings, *refusal) {
	p := parser{set: settings{api: api}}
	top := p.object(body, "the request")
	if p.broken == "" {
		p.schemaVersion(top)
		p.destination(p.object(top["destination"], "destination"))
		p.types(top["types"])
		p.buffering(p.object(top["buffering"], "buffering"))
	}
	switch {
	case p.broken != "":
		return settings{}, &refusal{400, "DeserializationError", "Could not read the subscription: " + p.broken}
	case len(p.faults) > 0:
		return settings{}, &refusal{400, "ValidationError", strings.Join(p.faults, "; ")}
	case p.outside:
		return settings{}, &refusal{403, "AccessDenied", "Telemetry is delivered to http://sandbox.localdomain and http://sandbox only"}
	}
	return p.set, nil
}

// parser collects what is wrong with a request on its way through.
type parser struct {
	set     settings
	broken  string   // the first value that is not of its type
	faults  []string // values out of range
	outside bool     // the destination is not in the environment
}

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// breaks notes the first value that cannot be read.
func (p *parser) breaks(name, want string) {
	if p.broken == "" {
		p.broken = name + " should be " + want
	}
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// object reads an object by the exact names of its members; nil when absent.
// encoding/json would take names in any case, which AWS does not.
func (p *parser) object(raw json.RawMessage, name string) map[string]json.RawMessage {
	if name != "the request" && absent(raw) {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		p.breaks(name, "a JSON object")
	}
	return members
}

func (p *parser) text(members map[string]json.RawMessage, name string) string {
	var s string
	if raw := members[name]; !absent(raw) {
		if err := json.Unmarshal(raw, &s); err != nil {
			p.breaks(name, "a string")
		}
	}
	return s
}

func (p *parser) integer(members map[string]json.RawMessage, name string) (n int64, ok bool) {
	raw := members[name]
	if absent(raw) {
		return 0, false
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		p.breaks(name, "an integer")
		return 0, false
	}
	return n, true
}

func (p *parser) schemaVersion(top map[string]json.RawMessage) {
	names, first := schemas(p.set.api)
	version := p.text(top, "schemaVersion")
	if version == "" && p.set.api == Logs {
		version = names[0]
	}
	at := slices.Index(names, version)
	switch {
	case version == "":
		p.fault("schemaVersion should be provided")
	case at < 0:
		p.fault("schemaVersion should be one of %s, not %s", strings.Join(names, ", "), echo(version))
	}
	p.set.schema = first + schema(max(0, at))
}

func (p *parser) destination(members map[string]json.RawMessage) {
	if members == nil {
		p.fault("destination should be provided")
		return
	}
	p.set.method = p.text(members, "method")
	switch p.set.method {
	case "":
		p.set.method = "POST"
	case "POST", "PUT":
	default:
		p.fault("method should be POST or PUT, not %s", echo(p.set.method))
	}
	if encoding := p.text(members, "encoding"); encoding != "" && encoding != "JSON" {
		p.fault("encoding should be JSON, not %s", echo(encoding))
	}
	switch protocol := p.text(members, "protocol"); protocol {
	case "HTTP":
		p.uri(p.text(members, "URI"))
	case "TCP":
		p.set.to.tcp = true
		port, ok := p.integer(members, "port")
		if !ok {
			p.fault("port is not provided")
			return
		}
		p.port(port)
	case "":
		p.fault("protocol should be provided")
	default:
		p.fault("protocol should be HTTP or TCP, not %s", echo(protocol))
	}
}

func (p *parser) uri(text string) {
	if text == "" {
		p.fault("URI is not provided")
		return
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURI || u.User != nil || u.Hostname() == "" || !printable(u.RequestURI()) || !printable(u.Host) {
		p.fault("URI is not valid")
		return
	}
	if u.Port() == "" {
		p.fault("URI port is not provided")
		return
	}
	port, err := strconv.ParseUint(u.Port(), 10, 32)
	if err != nil {
		port = 0
	}
	p.port(int64(port))
	if host := strings.ToLower(u.Hostname()); u.Scheme != "http" || host != "sandbox" && host != "sandbox.localdomain" {
		p.outside = true
	}
	p.set.host, p.set.to.target = u.Host, u.RequestURI()
}

// printable says that a text can stand in a request head as it is.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

func (p *parser) port(port int64) {
	switch {
	case port < 1 || port > 65535:
		p.fault("port should be between 1 and 65535")
	case port == runtimeAPIPort:
		p.fault("port %d is reserved", runtimeAPIPort)
	}
	p.set.to.port = int(port)
}

func (p *parser) types(raw json.RawMessage) {
	var types []*string
	if !absent(raw) {
		if err := json.Unmarshal(raw, &types); err != nil || slices.Contains(types, nil) {
			p.breaks("types", "an array of strings")
			return
		}
	}
	if len(types) == 0 {
		p.fault("types should not be empty")
	}
	for _, name := range types {
		var one streams
		switch *name {
		case "platform":
			one = streamPlatform
		case "function":
			one = streamFunction
		case "extension":
			one = streamExtension
		default:
			p.fault("types should be platform, function or extension, not %s", echo(*name))
			return // one is enough: there may be thousands
		}
		if p.set.streams&one != 0 {
			p.fault("types should be unique")
			return
		}
		p.set.streams |= one
		p.set.types = append(p.set.types, *name)
	}
}

func (p *parser) buffering(members map[string]json.RawMessage) {
	timeout := p.ranged(members, "timeoutMs", [3]int{minTimeoutMs, maxTimeoutMs, defaultTimeoutMs})
	p.set.timeout = time.Duration(timeout) * time.Millisecond
	p.set.maxBytes = p.ranged(members, "maxBytes", [3]int{minMaxBytes, maxMaxBytes, defaultMaxBytes})
	p.set.maxItems = p.ranged(members, "maxItems", [3]int{minMaxItems, maxMaxItems, defaultMaxItems})
}

// ranged reads a number within limits: least, most, default.
func (p *parser) ranged(members map[string]json.RawMessage, name string, limits [3]int) int {
	n, ok := p.integer(members, name)
	if !ok {
		return limits[2]
	}
	if n < int64(limits[0]) || n > int64(limits[1]) {
		p.fault("%s should be between %d and %d", name, limits[0], limits[1])
		return limits[2]
	}
	return int(n)
}

// echo repeats a value of the request in an error message, within bounds.
func echo(s string) string {
	if len(s) > maxEcho {
		s = strings.ToValidUTF8(s[:maxEcho], "") + "..."
	}
	return strconv.Quote(s)
}
