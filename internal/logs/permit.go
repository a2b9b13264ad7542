package logs

import (
	"errors"
	"strings"
	"time"

	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/telemetry"
)

// Permit decides whether an execution role (its ARN) may do an action, such as
// "logs:PutLogEvents", on a resource. Nil allows everything. It must answer
// from memory: log lines of all functions wait for it.
type Permit func(role, action, resource string) bool

// permitFor is how long an answer of Permit is taken for the same source, as
// AWS takes some time to notice a changed policy.
const permitFor = 30 * time.Second

// action is what an execution role is asked for on behalf of a function's log.
type action int

const (
	createGroup action = iota
	createStream
	putEvents
	actions // how many there are
)

func (a action) String() string {
	return [...]string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}[a]
}

// answer is what Permit said, until it has to be asked again.
type answer struct {
	allowed bool
	until   time.Time
}

// grants are the answers for one source. The writing goroutine alone uses them.
type grants [actions]answer

// allowed asks for an action, or remembers the answer.
func (i *Ingest) allowed(g *grants, src *telemetry.Source, a action) bool {
	if i.cfg.Permit == nil {
		return true
	}
	if now := i.cfg.Now(); !now.Before(g[a].until) {
		g[a] = answer{i.cfg.Permit(src.Role, a.String(), logARN(src, a)), now.Add(permitFor)}
	}
	return g[a].allowed
}

// logARN names the resource as CloudWatch's own answers of a denied call do:
// the group is a stream without a name, so that the usual grant on
// "log-group:NAME:*" holds for all three actions.
func logARN(src *telemetry.Source, a action) string {
	partition := "aws"
	if parts := strings.SplitN(src.ARN, ":", 3); len(parts) == 3 {
		partition = parts[1]
	}
	arn := "arn:" + partition + ":logs:" + src.Region + ":" + src.Account + ":log-group:" + src.LogGroup + ":log-stream:"
	if a == createGroup {
		return arn
	}
	return arn + src.LogStream
}

// errDenied: the execution role does not allow it.
var errDenied = errors.New("denied by the execution role")

// store appends a batch of a source as far as its role allows. What has to be
// made for it is asked for only when it does not exist.
func (i *Ingest) store(g *grants, src *telemetry.Source, events []logstore.Event) error {
	if !i.allowed(g, src, putEvents) {
		return errDenied
	}
	b := logstore.Batch{Group: src.LogGroup, Stream: src.LogStream, Events: events}
	err := i.cfg.Store.Append(b, logstore.Mode{})
	switch {
	case errors.Is(err, logstore.ErrNoGroup):
		if !i.allowed(g, src, createGroup) || !i.allowed(g, src, createStream) {
			return errDenied
		}
	case errors.Is(err, logstore.ErrNoStream):
		if !i.allowed(g, src, createStream) {
			return errDenied
		}
	default:
		return err
	}
	return i.cfg.Store.Append(b, logstore.Mode{Create: true})
}
