package otlp

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/firn-run/firn/internal/timeline"
)

// scope names firn as the instrumentation.
const scope = "github.com/firn-run/firn"

// providers makes spans of the SDK. A provider has one resource, so that there
// is one per environment; it belongs to the exporter's goroutine.
type providers struct {
	byResource map[timeline.Resource]*provider
}

// maxProviders bounds the providers; they are cheap to make anew.
const maxProviders = 256

type provider struct {
	tracer    trace.Tracer
	collector *collector
}

// spans are a set's spans in the SDK's form.
func (p *providers) spans(set timeline.SpanSet) []sdktrace.ReadOnlySpan {
	if len(set.Spans) == 0 {
		return nil
	}
	made := p.provider(set.Resource)
	for i := range set.Spans {
		made.span(&set.Spans[i])
	}
	spans := made.collector.spans
	made.collector.spans = nil
	return spans
}

func (p *providers) provider(r timeline.Resource) *provider {
	if made, ok := p.byResource[r]; ok {
		return made
	}
	if p.byResource == nil || len(p.byResource) >= maxProviders {
		p.byResource = map[timeline.Resource]*provider{}
	}
	c := &collector{}
	made := &provider{collector: c}
	made.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // who calls has decided
		sdktrace.WithIDGenerator(given{}),
		sdktrace.WithSpanProcessor(c),
		sdktrace.WithResource(describe(r)),
	).Tracer(scope)
	p.byResource[r] = made
	return made
}

// describe is an environment as a resource, in OpenTelemetry's words for
// Lambda.
func describe(r timeline.Resource) *resource.Resource {
	attributes := []attribute.KeyValue{
		semconv.ServiceName(r.Function),
		semconv.CloudProviderAWS,
		semconv.CloudPlatformAWSLambda,
		semconv.CloudRegion(r.Region),
		semconv.CloudAccountID(r.Account),
		semconv.FaaSName(r.Function),
		semconv.FaaSVersion(r.Version),
		semconv.FaaSInstance(r.Instance),
		semconv.FaaSMaxMemory(r.MemoryMB << 20),
	}
	if r.LogGroup != "" {
		attributes = append(attributes, semconv.AWSLogGroupNames(r.LogGroup), semconv.AWSLogStreamNames(r.Instance))
	}
	sdk, err := resource.New(context.Background(), resource.WithTelemetrySDK()) // which every resource of the SDK must name
	if err != nil {
		sdk = resource.Empty()
	}
	return resource.NewWithAttributes(semconv.SchemaURL, append(attributes, sdk.Attributes()...)...)
}

// span makes a finished span; the collector has it then.
func (p *provider) span(s *timeline.Span) {
	ctx := context.WithValue(context.Background(), identity{}, s)
	if s.Parent != [8]byte{} {
		parent := trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: s.TraceID, SpanID: s.Parent, TraceFlags: trace.FlagsSampled, Remote: s.Remote,
		})
		ctx = trace.ContextWithSpanContext(ctx, parent)
	}
	kinds := map[timeline.SpanKind]trace.SpanKind{
		timeline.SpanServer: trace.SpanKindServer, timeline.SpanClient: trace.SpanKindClient,
	}
	kind, ok := kinds[s.Kind]
	if !ok {
		kind = trace.SpanKindInternal
	}
	_, span := p.tracer.Start(ctx, s.Name, trace.WithTimestamp(s.Start), trace.WithSpanKind(kind), trace.WithAttributes(attributes(s.Attributes)...))
	if s.Failed {
		span.SetStatus(codes.Error, s.Message)
	}
	span.End(trace.WithTimestamp(s.End))
}

func attributes(list []timeline.Attribute) []attribute.KeyValue {
	made := make([]attribute.KeyValue, 0, len(list))
	for _, a := range list {
		switch v := a.Value.(type) {
		case string:
			if v != "" {
				made = append(made, attribute.String(a.Key, v))
			}
		case bool:
			made = append(made, attribute.Bool(a.Key, v))
		case int64:
			made = append(made, attribute.Int64(a.Key, v))
		case float64:
			made = append(made, attribute.Float64(a.Key, v))
		}
	}
	return made
}

// identity is the context's key of the span in the making.
type identity struct{}

// given is an IDGenerator that takes the identities from the context.
type given struct{}

// NewIDs implements sdktrace.IDGenerator for spans without a parent.
func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	s, ok := ctx.Value(identity{}).(*timeline.Span)
	if !ok {
		panic("otlp: a span without an identity: spans are made by provider.span only")
	}
	return s.TraceID, s.ID
}

// NewSpanID implements sdktrace.IDGenerator for spans with a parent.
func (g given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	_, id := g.NewIDs(ctx)
	return id
}

// collector is a span processor that keeps what has ended until it is taken,
// by the same goroutine.
type collector struct {
	spans []sdktrace.ReadOnlySpan
}

// OnStart implements sdktrace.SpanProcessor.
func (c *collector) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (c *collector) OnEnd(s sdktrace.ReadOnlySpan) { c.spans = append(c.spans, s) }

// Shutdown implements sdktrace.SpanProcessor.
func (c *collector) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (c *collector) ForceFlush(context.Context) error { return nil }
