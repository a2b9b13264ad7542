package awswire

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
	"github.com/firn-run/firn/internal/awswire/model"
)

// operation is one operation of the API and, once mounted, what serves it.
type operation struct {
	name   string
	method string
	uri    string // as in the model, with labels and a query literal
	code   int    // status of success
	limit  bodyLimit

	segments []string // of the path; "" stands for a label
	labels   []string // names of the labels, in order
	// queryKey and queryValue are the query literal that tells this operation
	// from its sibling on the same path; empty when it has none.
	queryKey, queryValue string

	// serve is nil until the operation is mounted; immutable after.
	serve func(http.ResponseWriter, *Request) error
}

// newOperation makes an operation of a service, with its route if it has one.
func newOperation(service *Service, schema *smithy.Schema) *operation {
	if !service.Speaks(model.RESTJSON) {
		name := schema.ID().Name
		return &operation{name: name, code: http.StatusOK, limit: bodyLimit{service.MaxBody, service.MaxBody, name}}
	}
	trait, ok := smithy.SchemaTrait[*traits.HTTP](schema)
	if !ok {
		panic("awswire: operation without an HTTP trait: " + schema.ID().Name)
	}
	op := &operation{name: schema.ID().Name, method: trait.Method, uri: trait.URI, code: trait.Code}
	op.limit = bodyLimitOf(op.name)
	path, query, _ := strings.Cut(trait.URI, "?")
	op.queryKey, op.queryValue, _ = strings.Cut(query, "=")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if strings.HasPrefix(segment, "{") {
			op.labels = append(op.labels, strings.Trim(segment, "{}"))
			segment = ""
		}
		op.segments = append(op.segments, segment)
	}
	if len(op.labels) > maxLabels {
		panic("awswire: more labels than maxLabels: " + trait.URI)
	}
	return op
}

// router finds the operation of a method and path. It is a tree over the
// segments of the path as it came on the wire, so that an escaped slash of an
// ARN does not end a label. The standard ServeMux is not used: it answers
// unclean paths with redirects, and unknown ones in plain text.
type router struct {
	literal map[string]*router
	label   *router
	ops     []*operation // that end here
}

func newRouter() *router { return &router{literal: map[string]*router{}} }

// add puts an operation into the tree. Not to be called after the first match.
func (n *router) add(op *operation) {
	for _, segment := range op.segments {
		next := n.literal[segment]
		if segment == "" {
			next = n.label
		}
		if next == nil {
			next = newRouter()
			if segment == "" {
				n.label = next
			} else {
				n.literal[segment] = next
			}
		}
		n = next
	}
	n.ops = append(n.ops, op)
}

// match returns the operation of a request with its decoded labels, or nil
// when AWS has no such operation. One trailing slash is accepted: older
// command lines send it.
func (n *router) match(method string, u *url.URL) (op *operation, labels [maxLabels]string) {
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		return nil, labels
	}
	rest := strings.TrimSuffix(path[1:], "/")
	count := 0
	for more := true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if next := n.literal[segment]; next != nil {
			n = next
			continue
		}
		if n.label == nil {
			return nil, labels
		}
		n = n.label
		value, err := url.PathUnescape(segment)
		if err != nil {
			return nil, labels
		}
		labels[count] = value
		count++
	}
	return n.choose(method, u.RawQuery), labels
}

// choose picks among the operations of one path: by method, and where two
// share both, by the query literal.
func (n *router) choose(method, rawQuery string) *operation {
	var plain *operation
	for _, op := range n.ops {
		switch {
		case op.method != method:
		case op.queryKey == "":
			plain = op
		default:
			if values, _ := url.ParseQuery(rawQuery); values.Get(op.queryKey) == op.queryValue {
				return op
			}
		}
	}
	return plain
}
