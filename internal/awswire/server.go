package awswire

import (
	"log/slog"
	"net/http"
	"time"
)

// Limits of an API listener.
const (
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
)

// NewServer returns an HTTP server for an API listener with the limits that
// every listener of firn must have:
//
//	request line and headers   64 KiB (431 beyond); AWS's own is smaller
//	time to the last header    10 s, then the connection is closed
//	idle connection            120 s
//	body                       6 MiB + 100 B for Invoke, 70167211 B for uploads of
//	                           code, 8 MiB for checkpoints and for all services but
//	                           Lambda, 1 MiB for the rest
//	                           (413 beyond); read no further than 16 MiB over
//	time to read a body        30 s, and 1 s for every 64 KiB of its limit
//	time to read an answer     30 s, and 1 s for every 64 KiB of it, from its
//	                           first byte on; before it an invocation may take 900 s
//	concurrent connections     4,096, which package server keeps; others wait
//
// Errors of connections go to log at debug level, since any client can cause
// them.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
