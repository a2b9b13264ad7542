package awswire

import (
	"bytes"
	"compress/gzip"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/form"
	"github.com/firn-run/firn/internal/awswire/model"
)

// smithyHeader names the protocol in requests and answers of Smithy RPC v2.
const (
	smithyHeader = "Smithy-Protocol"
	smithyCBOR   = "rpc-v2-cbor"
)

// route finds out which protocol a request speaks and, but for the query
// protocol with its action in the body, which operation it asks for.
func (m *Mux) route(r *Request) error {
	name := ""
	r.protocol = m.protocolOf(r.HTTP)
	switch r.protocol {
	case model.RESTJSON:
		if r.op, r.labels = m.router.match(r.HTTP.Method, r.HTTP.URL); r.op != nil {
			r.Operation = r.op.name
			return nil
		}
		return firn.Faultf(firn.UnknownOperation, "The operation %s %s is unknown.", r.HTTP.Method, r.HTTP.URL.EscapedPath())
	case model.Query:
		return nil
	case model.AWSJSON:
		r.json = jsonVersion(r.HTTP, m.service.JSONVersion)
		_, name = cutTarget(r.HTTP.Header.Get("X-Amz-Target"))
	case model.CBOR:
		_, name = cutPath(r.HTTP.URL.Path)
	}
	if r.HTTP.Method != http.MethodPost {
		return firn.Faultf(firn.UnknownOperation, "The operation %s of %s is called with POST.", name, m.service.Name)
	}
	return m.operation(r, name)
}

// operation sets the operation by its name.
func (m *Mux) operation(r *Request, name string) error {
	if r.op = m.ops[name]; r.op == nil {
		return firn.Faultf(firn.UnknownOperation, "%s has no operation %q.", m.service.Name, name)
	}
	r.Operation = r.op.name
	return nil
}

// protocolOf tells the protocol of a request among those that the service
// speaks. What is none of them is taken for the first, which answers it.
func (m *Mux) protocolOf(r *http.Request) model.Protocol {
	switch {
	case m.service.Speaks(model.CBOR) && strings.HasPrefix(r.URL.Path, "/service/"):
		return model.CBOR
	case m.service.Speaks(model.AWSJSON) && r.Header.Get("X-Amz-Target") != "":
		return model.AWSJSON
	case m.service.Speaks(model.Query) && (isForm(r) || r.Method == http.MethodGet):
		return model.Query
	}
	return m.service.Protocols[0]
}

// cutTarget parts the service from the operation: "Logs_20140328.PutLogEvents".
func cutTarget(target string) (service, operation string) {
	i := strings.LastIndexByte(target, '.')
	if i < 0 {
		return "", target
	}
	return target[:i], target[i+1:]
}

// cutPath parts the service from the operation of a path of Smithy RPC v2.
// Both are empty when it is no such path.
func cutPath(path string) (service, operation string) {
	rest, ok := strings.CutPrefix(path, "/service/")
	if !ok {
		return "", ""
	}
	service, operation, _ = strings.Cut(rest, "/operation/")
	return service, operation
}

// isForm reports whether the body is a form.
func isForm(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == "application/x-www-form-urlencoded"
}

// jsonVersion is the version of AWS-JSON that the client speaks, which is also
// that of the answer.
func jsonVersion(r *http.Request, other string) string {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if version, ok := strings.CutPrefix(kind, "application/x-amz-json-"); ok && (version == "1.0" || version == "1.1") {
		return version
	}
	return other
}

// unpack makes the body of an authenticated request readable: it is
// decompressed, and that of the query protocol is parsed and tells the
// operation.
func (m *Mux) unpack(r *Request) error {
	if r.protocol == model.RESTJSON {
		return nil
	}
	if err := m.decompress(r); err != nil {
		return err
	}
	if r.protocol != model.Query {
		return nil
	}
	text := r.HTTP.URL.RawQuery
	if r.HTTP.Method == http.MethodPost {
		text = string(r.Body)
	}
	var err error
	if r.form, err = form.Parse(text); err != nil {
		return firn.Faultf(firn.Serialization, "The request's parameters cannot be read: %s", err)
	}
	name, version := r.form.Text("Action"), r.form.Text("Version")
	if name == "" {
		return firn.Faultf(missingAction, "The request is missing an Action parameter.")
	}
	if m.ops[name] == nil || version != "" && version != m.service.Version {
		return firn.Faultf(firn.UnknownOperation, "Could not find operation %s for version %s", name, version)
	}
	return m.operation(r, name)
}

// missingAction is what the query protocol answers to a form without an
// action. Other protocols cannot lack it.
const missingAction firn.Kind = "MissingAction"

// decompress replaces a compressed body by what it says, within the service's
// limit. SDKs compress metrics from 10 KiB on. The signature is over the
// compressed form.
func (m *Mux) decompress(r *Request) error {
	encoding := strings.TrimSpace(strings.ToLower(r.HTTP.Header.Get("Content-Encoding")))
	switch encoding {
	case "", "identity":
		return nil
	case "gzip":
	default:
		return firn.Faultf(firn.Serialization, "Content-Encoding %s is not supported; gzip is", encoding)
	}
	reader, err := gzip.NewReader(bytes.NewReader(r.Body))
	if err != nil {
		return firn.Faultf(firn.Serialization, "The body is not gzip: %s", err)
	}
	plain, err := io.ReadAll(io.LimitReader(reader, m.service.MaxBody+1))
	switch {
	case int64(len(plain)) > m.service.MaxBody:
		return bodyLimit{m.service.MaxBody, m.service.MaxBody, "decompressed"}.fault()
	case err != nil:
		return firn.Faultf(firn.Serialization, "The body is not gzip: %s", err)
	}
	r.Body = plain
	return nil
}
