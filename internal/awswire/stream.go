package awswire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/firn-run/firn/internal/awswire/model"
)

// streamWriteTime is how long a client may take to read one event.
const streamWriteTime = 30 * time.Second

// EventStream is an answer that is sent event by event. It belongs to the
// goroutine of its operation.
type EventStream struct {
	mux     *Mux
	request *Request
	w       *answer
	control *http.ResponseController
	union   *smithy.Schema
	encoder *eventstream.Encoder
	buffer  bytes.Buffer
}

// HandleStream mounts fn as the operation whose input type it takes and which
// answers with events (StartLiveTail, InvokeWithResponseStream). It panics
// when the operation has no stream of events, or is mounted already.
//
// fn sees a checked input, as with Handle. Until it has called Start or Send,
// an error that it returns is answered like that of any operation. After, an
// exception that the stream has in its model is sent as its last event, and
// any other error as an error event without more than its code and message.
// The stream ends when fn returns. The context ends when the client goes away.
func HandleStream[In any](m *Mux, fn func(context.Context, *In, *EventStream) error) {
	in := reflect.TypeFor[In]()
	op := m.mustMount(strings.TrimSuffix(in.Name(), "Input"))
	union := m.service.Streams[op.name]
	if union == nil {
		panic("awswire: " + op.name + " does not answer with events")
	}
	input := m.codec.rootPlan(in)
	op.serve = func(w http.ResponseWriter, r *Request) error {
		v := new(In)
		if err := m.codec.decode(input, reflect.ValueOf(v).Elem(), r); err != nil {
			return err
		}
		s := &EventStream{mux: m, request: r, w: w.(*answer), control: http.NewResponseController(w), union: union, encoder: eventstream.NewEncoder()}
		err := fn(context.WithValue(r.HTTP.Context(), requestKey{}, r), v, s)
		switch {
		case !s.w.begun && err != nil:
			return err
		case err != nil:
			return s.fail(err)
		case !s.w.begun:
			return s.Start(nil)
		}
		return nil
	}
}

// Header returns the headers of the answer, which Start sends.
func (s *EventStream) Header() http.Header { return s.w.Header() }

// Start begins the answer, so that the client sees that its request was
// accepted; Send does so too when Start has not been called. out is a pointer
// to the operation's output, whose members travel in headers (REST) or in the
// initial event (RPC), or nil.
func (s *EventStream) Start(out any) error {
	if s.w.begun {
		return errors.New("awswire: the stream has begun")
	}
	code := s.request.op.code
	var p *plan
	var v reflect.Value
	if out != nil {
		v = reflect.ValueOf(out).Elem()
		p = s.mux.codec.rootPlan(v.Type())
	}
	h := s.w.Header()
	rest := s.request.protocol == model.RESTJSON
	if rest && p != nil {
		code = setBound(h, p, v, code)
	}
	if s.request.protocol == model.CBOR {
		h.Set(smithyHeader, smithyCBOR)
	}
	h.Set("Content-Type", "application/vnd.amazon.eventstream")
	s.w.WriteHeader(code)
	if rest {
		return s.flush()
	}
	if p == nil {
		p = &plan{kind: kindStruct}
	}
	contentType, payload := s.structure(p, v)
	return s.send(payload, stringHeader(":message-type", "event"), stringHeader(":event-type", "initial-response"), stringHeader(":content-type", contentType))
}

// Send sends one event at once. event is the member of the stream's union, for
// example "sessionUpdate"; v is the SDK's structure of it or a pointer to one.
// The error says that the client has gone, or does not read, and the operation
// is over.
func (s *EventStream) Send(event string, v any) error {
	member := s.union.Member(event)
	if member == nil {
		panic("awswire: " + s.union.ID().Name + " has no event " + event)
	}
	if !s.w.begun {
		if err := s.Start(nil); err != nil {
			return err
		}
	}
	value := reflect.Indirect(reflect.ValueOf(v))
	headers := []eventstream.Header{stringHeader(":message-type", "event"), stringHeader(":event-type", event)}
	return s.event(headers, member, value)
}

// event sends a structure: members that the model puts into headers, a member
// that is the whole payload, or all members as the protocol has them.
func (s *EventStream) event(headers []eventstream.Header, schema *smithy.Schema, v reflect.Value) error {
	p := s.mux.codec.eventPlan(v.Type(), schema)
	contentType, payload, whole := "", []byte(nil), false
	for i := range p.fields {
		f := &p.fields[i]
		switch member := v.Field(f.index); {
		case f.place == inHeader:
			if text, ok := headerText(f.plan, member); ok {
				headers = append(headers, stringHeader(f.wire, text))
			}
		case f.place == inPayload && f.kind == kindBlob:
			contentType, payload, whole = "application/octet-stream", member.Bytes(), true
		}
	}
	if !whole {
		contentType, payload = s.structure(p, v)
	}
	return s.send(payload, append(headers, stringHeader(":content-type", contentType))...)
}

// structure renders a structure in the protocol of the request.
func (s *EventStream) structure(p *plan, v reflect.Value) (contentType string, payload []byte) {
	if s.request.protocol == model.CBOR {
		return "application/cbor", cbor.Encode(cborStruct(p, v))
	}
	return "application/json", appendStruct(nil, p, v)
}

// send writes one message and flushes it.
func (s *EventStream) send(payload []byte, headers ...eventstream.Header) error {
	if err := s.request.Context().Err(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	s.buffer.Reset()
	if err := s.encoder.Encode(&s.buffer, eventstream.Message{Headers: headers, Payload: payload}); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	// An error means that there is no network connection, as in tests.
	if s.control.SetWriteDeadline(time.Now().Add(streamWriteTime)) == nil {
		defer s.control.SetWriteDeadline(time.Time{})
	}
	if _, err := s.w.ResponseWriter.Write(s.buffer.Bytes()); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return s.flush()
}

func (s *EventStream) flush() error {
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return nil
}

// fail ends the stream with an error.
func (s *EventStream) fail(err error) error {
	if s.request.Context().Err() != nil {
		return nil // nobody listens
	}
	f := s.mux.failureOf(s.request, err)
	if member := s.union.Member(f.shape.name); member != nil && f.plan != nil {
		return s.event([]eventstream.Header{stringHeader(":message-type", "exception"), stringHeader(":exception-type", f.shape.name)}, member, f.value)
	}
	s.mux.log(s.request, slog.LevelInfo, "event stream ended early", err)
	return s.send(nil, stringHeader(":message-type", "error"), stringHeader(":error-code", f.shape.name), stringHeader(":error-message", f.fault.Message))
}

func stringHeader(name, value string) eventstream.Header {
	return eventstream.Header{Name: name, Value: eventstream.StringValue(value)}
}

// eventPlan returns the plan of a structure that is an event.
func (c *codec) eventPlan(t reflect.Type, schema *smithy.Schema) *plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.structPlanLocked(t, schema)
}
