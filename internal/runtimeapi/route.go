package runtimeapi

import "bytes"

// route names an endpoint.
type route int

const (
	routeUnknown route = iota
	routePing
	routeNext
	routeResponse
	routeError
	routeInitError
	routeMetadata
	routeRegister
	routeExtensionNext
	routeExtensionInitError
	routeExtensionExitError
	routeTelemetry
	routeLogs
)

// The prefixes of the APIs are their versions.
const (
	runtimePrefix    = "/2018-06-01"
	extensionPrefix  = "/2020-01-01"
	telemetryPrefix  = "/2022-07-01"
	logsPrefix       = "/2020-08-15"
	metadataPrefix   = "/2026-01-15"
	invocationPrefix = "/runtime/invocation/"
)

// findRoute matches a path literally, as AWS's router does: percent-encoding,
// a slash at the end and dot segments make another path. id is the request id
// in it, and method the only one that the route takes.
func findRoute(path []byte) (r route, method string, id []byte) {
	if len(path) < len(runtimePrefix) {
		return routeUnknown, "", nil
	}
	prefix, rest := path[:len(runtimePrefix)], path[len(runtimePrefix):]
	switch string(prefix) {
	case runtimePrefix:
		return findRuntimeRoute(rest)
	case extensionPrefix:
		switch string(rest) {
		case "/extension/register":
			return routeRegister, "POST", nil
		case "/extension/event/next":
			return routeExtensionNext, "GET", nil
		case "/extension/init/error":
			return routeExtensionInitError, "POST", nil
		case "/extension/exit/error":
			return routeExtensionExitError, "POST", nil
		}
	case telemetryPrefix:
		if string(rest) == "/telemetry" {
			return routeTelemetry, "PUT", nil
		}
	case metadataPrefix:
		if string(rest) == "/metadata/execution-environment" {
			return routeMetadata, "GET", nil
		}
	case logsPrefix:
		if string(rest) == "/logs" {
			return routeLogs, "PUT", nil
		}
	}
	return routeUnknown, "", nil
}

func findRuntimeRoute(rest []byte) (r route, method string, id []byte) {
	switch string(rest) {
	case "/runtime/invocation/next":
		return routeNext, "GET", nil
	case "/runtime/init/error":
		return routeInitError, "POST", nil
	case "/ping":
		return routePing, "GET", nil
	}
	if !bytes.HasPrefix(rest, []byte(invocationPrefix)) {
		return routeUnknown, "", nil
	}
	id, verb, _ := bytes.Cut(rest[len(invocationPrefix):], []byte{'/'})
	if len(id) == 0 {
		return routeUnknown, "", nil
	}
	switch string(verb) {
	case "response":
		return routeResponse, "POST", id
	case "error":
		return routeError, "POST", id
	}
	return routeUnknown, "", nil
}

// ofExtensions says that a route belongs to the APIs that are off when
// extensions are disabled.
func (r route) ofExtensions() bool { return r >= routeRegister }
