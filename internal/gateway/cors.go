package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// preflight answers the question of a browser whether it may send a request:
// it reports whether r is one, and adds the headers of the answer to h when
// the origin is allowed. Without a configuration the function answers itself,
// and so it does with an OPTIONS that is no preflight.
func (c *CORS) preflight(r *http.Request, h http.Header) bool {
	asked := r.Header.Get("Access-Control-Request-Method")
	if c == nil || r.Method != http.MethodOptions || r.Header.Get("Origin") == "" || asked == "" {
		return false
	}
	if !c.origin(r, h) {
		return true
	}
	list(h, "Access-Control-Allow-Methods", c.AllowMethods, c.wildcard(asked))
	list(h, "Access-Control-Allow-Headers", c.AllowHeaders, c.wildcard(r.Header.Get("Access-Control-Request-Headers")))
	list(h, "Access-Control-Expose-Headers", c.ExposeHeaders, "*")
	if c.MaxAge > 0 {
		h.Add("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
	}
	return true
}

// decorate adds the headers of an actual response. What the function said of
// CORS stays beside them, also where both say the same ("Cross-origin resource
// sharing (CORS)" of the documents: the result may be duplicates).
func (c *CORS) decorate(r *http.Request, h http.Header) {
	if c != nil && r.Header.Get("Origin") != "" && c.origin(r, h) {
		list(h, "Access-Control-Expose-Headers", c.ExposeHeaders, "*")
	}
}

// origin allows the request's origin if it is one of those configured.
func (c *CORS) origin(r *http.Request, h http.Header) bool {
	origin := r.Header.Get("Origin")
	any := slices.Contains(c.AllowOrigins, "*")
	if !any || c.AllowCredentials {
		h.Add("Vary", "Origin") // caches must not serve it to other origins
	}
	if !any && !slices.ContainsFunc(c.AllowOrigins, func(allowed string) bool { return sameOrigin(allowed, origin) }) {
		return false
	}
	if any && !c.AllowCredentials {
		origin = "*" // which browsers do not take together with credentials
	}
	h.Add("Access-Control-Allow-Origin", origin)
	if c.AllowCredentials {
		h.Add("Access-Control-Allow-Credentials", "true")
	}
	return true
}

// sameOrigin compares a configured origin, which may end in a slash or stand
// for all of a scheme ("https://*"), with that of a request.
func sameOrigin(allowed, origin string) bool {
	allowed = strings.TrimSuffix(allowed, "/")
	if scheme, ok := strings.CutSuffix(allowed, "*"); ok && strings.HasSuffix(scheme, "://") {
		return len(origin) > len(scheme) && strings.EqualFold(origin[:len(scheme)], scheme)
	}
	return strings.EqualFold(allowed, origin)
}

// wildcard is what stands for a configured "*": with credentials browsers take
// the star literally, and what was asked for is allowed by name.
func (c *CORS) wildcard(asked string) string {
	if c.AllowCredentials {
		return asked
	}
	return "*"
}

// list adds a header that lists the configured values, or star where "*" is
// one of them.
func list(h http.Header, name string, values []string, star string) {
	text := strings.Join(values, ",")
	if slices.Contains(values, "*") {
		text = star
	}
	if text != "" {
		h.Add(name, text)
	}
}
