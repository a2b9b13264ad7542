package awswire

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"strings"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/form"
	"github.com/firn-run/firn/internal/awswire/model"
)

// FrontDoor returns a handler that serves several services behind one address,
// as clients with a single endpoint URL need it. It tells the service of a
// request by what its protocol says of it, and never by the host:
//
//	X-Amz-Target                           the part before the dot
//	/service/NAME/operation/OP             NAME
//	a form or an Action at /               the service in the signature's scope;
//	                                       without one the action and its version
//	any other path                         the service that has the route, the
//	                                       signature's first
//
// What no service has is answered by the first one, as unknown; a request for
// a service of AWS that firn does not have is answered with
// NotImplementedException that names it. The Mux that is chosen verifies the
// signature: the door only reads who it claims to be for.
func FrontDoor(first *Mux, others ...*Mux) http.Handler {
	return &frontDoor{muxes: append([]*Mux{first}, others...)}
}

type frontDoor struct{ muxes []*Mux }

// ServeHTTP hands the request to its service.
func (d *frontDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux, absent := d.choose(r)
	if absent == "" {
		mux.ServeHTTP(w, r)
		return
	}
	mux.handle(w, r, func(_ *answer, request *Request) error {
		request.protocol, request.json = foreignProtocol(r), jsonVersion(r, "1.0")
		return firn.Faultf(firn.NotImplemented, "firn does not serve %s; see DIVERGENCES.md", absent)
	})
}

// choose finds the service of a request, or the name of one that firn does not
// have.
func (d *frontDoor) choose(r *http.Request) (mux *Mux, absent string) {
	scope := scopeOf(r)
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		name, operation := cutTarget(target)
		return d.named(model.AWSJSON, cmp.Or(name, operation), scope)
	}
	if name, _ := cutPath(r.URL.Path); name != "" {
		return d.named(model.CBOR, name, scope)
	}
	// Forms go to the root. A form's content type elsewhere means nothing: curl
	// gives it to whatever it posts.
	if r.URL.Path == "/" && (isForm(r) || strings.Contains(r.URL.RawQuery, "Action=")) {
		return d.query(r, scope)
	}
	signed := d.signed(scope)
	if signed != nil && signed.service.Speaks(model.RESTJSON) {
		return signed, ""
	}
	for _, m := range d.muxes {
		if op, _ := m.router.match(r.Method, r.URL); op != nil {
			return m, ""
		}
	}
	if scope != "" && signed == nil {
		return d.muxes[0], scope
	}
	return d.muxes[0], ""
}

// named finds the service with a name on the wire.
func (d *frontDoor) named(p model.Protocol, name, scope string) (mux *Mux, absent string) {
	for _, m := range d.muxes {
		if m.service.Target == name && m.service.Speaks(p) {
			return m, ""
		}
	}
	if scope != "" && d.signed(scope) == nil {
		name = scope + " (" + name + ")"
	}
	return d.muxes[0], name
}

// signed finds the service with a signing name.
func (d *frontDoor) signed(scope string) *Mux {
	for _, m := range d.muxes {
		if scope != "" && m.service.SigningName == scope {
			return m
		}
	}
	return nil
}

// query finds the service of a form.
func (d *frontDoor) query(r *http.Request, scope string) (mux *Mux, absent string) {
	if m := d.signed(scope); m != nil {
		return m, ""
	}
	if scope != "" {
		return d.muxes[0], scope
	}
	var fallback *Mux
	for _, m := range d.muxes {
		if m.service.Speaks(model.Query) {
			fallback = m
			break
		}
	}
	if fallback == nil {
		return d.muxes[0], ""
	}
	if fallback.cfg.Auth != nil {
		return fallback, "" // which turns the stranger away
	}
	text := r.URL.RawQuery
	if r.Method == http.MethodPost {
		// Without authentication the body may be read before the service is known.
		body, _ := io.ReadAll(io.LimitReader(r.Body, fallback.service.MaxBody+1))
		rest := r.Body
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), rest), rest}
		text = string(body)
	}
	fields, err := form.Parse(text)
	if err != nil {
		return fallback, ""
	}
	for _, m := range d.muxes {
		if m.service.Speaks(model.Query) && m.service.Version == fields.Text("Version") && m.ops[fields.Text("Action")] != nil {
			return m, ""
		}
	}
	return fallback, ""
}

// scopeOf reads the service in the scope of a signature, or "". Nothing is
// verified.
func scopeOf(r *http.Request) string {
	credential := ""
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		credential, _, _ = strings.Cut(rest, ",")
	} else if strings.Contains(r.URL.RawQuery, "X-Amz-Credential=") {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	// key/date/region/service/aws4_request
	parts := strings.Split(strings.TrimSpace(credential), "/")
	if len(parts) < 5 {
		return ""
	}
	return parts[len(parts)-2]
}

// foreignProtocol is in which protocol a service that firn does not have is to
// be answered for.
func foreignProtocol(r *http.Request) model.Protocol {
	name, _ := cutPath(r.URL.Path)
	switch scopeOf(r) {
	case "s3", "s3express", "route53", "cloudfront":
		return model.Query // their errors are XML too
	}
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		return model.AWSJSON
	case name != "" || r.Header.Get(smithyHeader) == smithyCBOR:
		return model.CBOR
	case isForm(r):
		return model.Query
	}
	return model.RESTJSON
}
