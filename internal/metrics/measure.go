package metrics

import (
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/metrics/series"
)

// Measure is a metric of AWS/Lambda that no record of an environment tells:
// the part of firn that knows of it says so with Observe.
type Measure uint8

// The measures, with the value that Observe takes for each occurrence. None is
// published before it was observed.
const (
	// AsyncEventsReceived: 1 for each event that was queued for asynchronous invocation.
	AsyncEventsReceived Measure = iota
	// AsyncEventAge: milliseconds from queueing to the invocation's start.
	AsyncEventAge
	// AsyncEventsDropped: 1 for each event that was given up without having been processed.
	AsyncEventsDropped
	// IteratorAge: milliseconds between the last record of a batch from a stream being
	// written there and the batch being received.
	IteratorAge
	// OffsetLag: records between the last one written to a topic and the last one processed.
	OffsetLag
	// DeadLetterErrors: 1 for each event that could not be sent to the dead-letter queue.
	DeadLetterErrors
	// DestinationDeliveryFailures: 1 for each event that could not be sent to a destination.
	DestinationDeliveryFailures
	// RecursiveInvocationsDropped: 1 for each invocation that was stopped as part of a loop.
	RecursiveInvocationsDropped
	// ProvisionedConcurrencyInvocations: 1 for each invocation on provisioned concurrency.
	ProvisionedConcurrencyInvocations
	// ProvisionedConcurrencySpilloverInvocations: 1 for each invocation on
	// standard concurrency because all provisioned was in use.
	ProvisionedConcurrencySpilloverInvocations
	// ProvisionedConcurrencyUtilization: share of the provisioned concurrency in use, 0 to 1.
	ProvisionedConcurrencyUtilization
	// ProvisionedConcurrentExecutions: provisioned environments that process events.
	ProvisionedConcurrentExecutions
	// URLRequestCount: 1 for each request of a function URL.
	URLRequestCount
	// URL4xxCount: 1 for each of them that was answered with a status of 400 to 499.
	URL4xxCount
	// URL5xxCount: 1 for each of them that was answered with a status of 500 to 599.
	URL5xxCount
	// URLRequestLatency: milliseconds from receiving a request to the end of its answer.
	URLRequestLatency

	measures int = iota
)

// String is the name of the measure in CloudWatch.
func (m Measure) String() string {
	return [measures]string{
		"AsyncEventsReceived", "AsyncEventAge", "AsyncEventsDropped", "IteratorAge", "OffsetLag", "DeadLetterErrors",
		"DestinationDeliveryFailures", "RecursiveInvocationsDropped", "ProvisionedConcurrencyInvocations",
		"ProvisionedConcurrencySpilloverInvocations", "ProvisionedConcurrencyUtilization", "ProvisionedConcurrentExecutions",
		"UrlRequestCount", "Url4xxCount", "Url5xxCount", "UrlRequestLatency",
	}[m]
}

// unit is the unit of the measure in CloudWatch.
func (m Measure) unit() string {
	if m == AsyncEventAge || m == IteratorAge || m == URLRequestLatency {
		return "Milliseconds"
	}
	return "Count"
}

// Of names what a measure is of: the ARN with the qualifier that the caller
// used, and the version behind it, nil when none was executed.
type Of struct {
	InvokedARN string
	Version    *firn.FunctionVersion
}

// Observe records one occurrence of a measure, now. What a value means stands
// with each measure; those that are not of this package's list are ignored.
func (s *Store) Observe(m Measure, of Of, value float64) {
	if int(m) >= measures {
		return
	}
	name, version := functionName(of.InvokedARN), ""
	if of.Version != nil {
		name, version = of.Version.Name, of.Version.Version
	}
	now := s.cfg.Now()
	f := s.accumulator(name)
	defer f.mu.Unlock()
	in := f.minuteLocked(f.targetLocked(qualifier(of.InvokedARN), version), now, now)
	if in.observed == nil {
		in.observed = map[Measure]*series.Point{}
	}
	if in.observed[m] == nil {
		in.observed[m] = &series.Point{}
	}
	in.observed[m].Observe(value, 1)
}

// Milliseconds is a duration in the unit of the measures that are durations.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
