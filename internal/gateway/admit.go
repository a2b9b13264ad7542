package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/auth"
)

// The actions that a caller of a URL needs leave for.
const (
	actionURL    = "lambda:InvokeFunctionUrl"
	actionInvoke = "lambda:InvokeFunction"
)

// admit lets the request in or not: its signature, the policies, and then its
// body, of which strangers get nothing read.
func (x *exchange) admit() error {
	proof, err := x.identify()
	if err != nil {
		return err
	}
	if !x.allowed() {
		return errForbidden
	}
	if x.body, err = x.readBody(); err != nil {
		return err
	}
	if proof != nil {
		return proof.Finish(x.r, x.body)
	}
	return nil
}

// identify finds out who asks. A request without any signature is one of
// nobody, whom a policy has to let in.
func (x *exchange) identify() (*auth.Proof, error) {
	if x.url.Auth != AuthIAM {
		return nil, nil
	}
	if x.g.cfg.Auth == nil {
		x.caller = x.g.cfg.Anonymous
		return nil, nil
	}
	proof, err := x.g.cfg.Auth.Begin(x.r)
	if firn.KindOf(err) == firn.MissingAuthentication {
		return nil, errForbidden
	}
	if err != nil {
		return nil, err
	}
	x.caller = proof.Identity
	return proof, nil
}

// allowed asks for both actions.
func (x *exchange) allowed() bool {
	secure, _ := x.origin()
	conditions := map[string]string{
		"lambda:FunctionUrlAuthType":   x.url.Auth,
		"lambda:InvokedViaFunctionUrl": "true",
		"aws:SourceIp":                 sourceIP(x.r),
		"aws:UserAgent":                x.r.UserAgent(),
		"aws:Referer":                  x.r.Referer(),
		"aws:SecureTransport":          strconv.FormatBool(secure == "https"),
		"aws:CurrentTime":              x.start.UTC().Format(time.RFC3339),
		"aws:EpochTime":                strconv.FormatInt(x.start.Unix(), 10),
	}
	for _, key := range []string{"aws:UserAgent", "aws:Referer"} {
		if conditions[key] == "" {
			delete(conditions, key) // a header that was not sent is no key
		}
	}
	for _, action := range []string{actionURL, actionInvoke} {
		if !x.g.cfg.URLs.Allowed(Access{URL: x.url, Action: action, Caller: x.caller, Conditions: conditions}) {
			return false
		}
	}
	return true
}

// bodyTime is how long a body may take to arrive: half a minute, and what the
// largest takes at 64 KiB per second.
const bodyTime = 30*time.Second + firn.MaxPayloadBytes>>16*time.Second

// drainTime and drainLimit bound how much of a refused body is still read, so
// that a client that writes all before it reads gets to see the answer.
const (
	drainTime  = 2 * time.Second
	drainLimit = 16 * firn.MiB
)

// errClientGone says that the request ended before its body did.
var errClientGone = errors.New("the client went away while it sent the body")

// readBody reads the body whole. Memory grows with what has arrived, never
// with what was announced.
func (x *exchange) readBody() ([]byte, error) {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return nil, nil
	}
	control := http.NewResponseController(x.w)
	if x.r.ContentLength > firn.MaxPayloadBytes {
		x.drain(control)
		return nil, tooLarge()
	}
	if control.SetReadDeadline(time.Now().Add(bodyTime)) == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, firn.MaxPayloadBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errClientGone, err)
	case len(body) > firn.MaxPayloadBytes:
		x.drain(control)
		return nil, tooLarge()
	}
	return body, nil
}

// drain reads on for a while after a refusal and lets the connection close.
func (x *exchange) drain(control *http.ResponseController) {
	x.w.Header().Set("Connection", "close")
	if x.r.Header.Get("Expect") != "" {
		return // the client waits for leave to send
	}
	if control.SetReadDeadline(time.Now().Add(drainTime)) == nil {
		// What is read and how it ends does not matter: the answer is the same.
		_, _ = io.CopyN(io.Discard, x.r.Body, drainLimit)
	}
}
