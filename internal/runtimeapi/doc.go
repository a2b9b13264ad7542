// Package runtimeapi is the HTTP surface that an execution environment shows
// to the processes inside it: the Runtime API (2018-06-01), the Extensions API
// (2020-01-01), the subscriptions of the Telemetry API (2022-07-01) and the
// Logs API (2020-08-15), and the metadata endpoint (2026-01-15). It reads requests, checks their syntax, turns them into
// events of package lifecycle, and writes the replies that the machine decides
// on, at once or (a parked next) later and from another goroutine. It has no
// opinion of states: what may be called when is the machine's business.
//
// The server is written for this one purpose and not on net/http, for two
// reasons. A warm invocation is two requests here, and net/http's share of
// them is larger than all the rest of firn. And an idle environment has one
// parked next for the runtime and one for each extension: a connection costs
// one goroutine and one small buffer here, no matter how long it waits.
//
// What the processes inside send is hostile input. Limits, per environment:
//
//	request line and headers       1 MiB + 64 KiB  431, connection closed
//	buffered response              6,291,556 bytes 413, Function.ResponseSizeTooLarge
//	streamed response              200 MiB         413, Function.ResponseSizeTooLarge
//	error, register, init/error    1 MiB           413
//	subscription                   1 MiB           413
//	chunk-size line, trailers      4 KiB, 16 KiB   400, connection closed
//	unread body that is discarded  64 MiB          connection closed
//	open connections               256             the one idle longest is closed, else the new one
//	requests holding over 16 KiB   4 at once       the others wait
//
// There is no limit of time on a request, on purpose: an environment is frozen
// for hours in the middle of whatever its threads do, and a thread that thaws
// must find its connection as it left it. Time is bounded by the function's
// timeout, at which the processes die, and memory by the table: a connection
// that says nothing costs its buffer of 1 KiB and a goroutine.
package runtimeapi

import "github.com/firn-run/firn"

const (
	maxHeadBytes     = 1<<20 + 64<<10
	maxResponseBytes = firn.MaxPayloadBytes
	maxErrorBytes    = 1 << 20
	maxLineBytes     = 4 << 10
	maxTrailerBytes  = 16 << 10
	maxDiscardBytes  = 64 << 20
	maxConnections   = 256

	// largeBytes is what a request may hold without asking; more needs one
	// of the largeRequests places. The body of a response needs none: the
	// machine accepts one at a time.
	largeBytes    = 16 << 10
	largeRequests = 4

	// inlineBytes is the read buffer that every connection has. The requests
	// of all known runtime clients fit, with the body of a small response.
	inlineBytes = 1 << 10
)
