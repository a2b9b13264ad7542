package server

import (
	"fmt"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/metrics"
	"github.com/firn-run/firn/internal/policy"
)

// urls is what function URLs need of functions: their configuration and the
// policies on them.
type urls struct{ *control.Control }

// URL implements gateway.URLs.
func (u urls) URL(id string) *gateway.URL {
	found, ok := u.Control.URL(id)
	if !ok {
		return nil
	}
	out := &gateway.URL{ID: found.ID, Function: found.Function, Auth: gateway.AuthNone, Stream: found.Streaming}
	if found.AuthIAM {
		out.Auth = gateway.AuthIAM
	}
	if c := found.Cors; c != nil {
		out.CORS = &gateway.CORS{
			AllowOrigins: c.AllowOrigins, AllowMethods: c.AllowMethods, AllowHeaders: c.AllowHeaders, ExposeHeaders: c.ExposeHeaders,
			AllowCredentials: c.AllowCredentials, MaxAge: c.MaxAge,
		}
	}
	return out
}

// Allowed implements gateway.URLs.
func (u urls) Allowed(a gateway.Access) bool {
	keys := make(policy.Context, len(a.Conditions))
	for key, value := range a.Conditions {
		keys.Set(key, value)
	}
	ok, _ := u.Control.Allowed(control.Access{
		Function: a.URL.Function, Action: a.Action, Principal: policy.PrincipalOf(a.Caller), Context: keys,
	})
	return ok
}

// serveURLs makes the front of function URLs.
func (s *Server) serveURLs(ctl *control.Control, invoker *invoke.Invoker, wire awswire.Config, seen *metrics.Store) (*gateway.Gateway, error) {
	cfg := &s.cfg
	g, err := gateway.New(gateway.Config{
		URLs: urls{ctl}, Invoker: invoker, Auth: wire.Auth, Anonymous: wire.Anonymous,
		Region: cfg.Region, Account: cfg.Account, Endpoint: s.Endpoint, Domain: cfg.URLDomain, Now: cfg.Now,
		Logger: cfg.Logger.With("component", "urls"),
		Served: func(r gateway.Served) {
			arn := firn.FunctionARN(cfg.Region, cfg.Account, r.Function.Name)
			if r.Function.Qualifier != "" {
				arn += ":" + r.Function.Qualifier
			}
			of := metrics.Of{InvokedARN: arn}
			seen.Observe(metrics.URLRequestCount, of, 1)
			seen.Observe(metrics.URLRequestLatency, of, metrics.Milliseconds(r.Latency))
			switch r.Status / 100 {
			case 4:
				seen.Observe(metrics.URL4xxCount, of, 1)
			case 5:
				seen.Observe(metrics.URL5xxCount, of, 1)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("function URLs: %w", err)
	}
	return g, nil
}
