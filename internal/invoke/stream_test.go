package invoke

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// page is a StreamWriter that keeps what was written.
type page struct {
	heads []StreamHead
	err   error // of the next method
}

func (p *page) Head(h StreamHead) error {
	p.heads = append(p.heads, h)
	return p.err
}

func (p *page) Write([]byte) error { return p.err }

func sinkOf(w StreamWriter, cfg Config) *streamSink {
	return &streamSink{ctx: context.Background(), w: w, pace: New(cfg).pace(), head: StreamHead{ExecutedVersion: "7", TraceHeader: "Root=1"}}
}

func TestStreamHeads(t *testing.T) {
	for _, test := range []struct {
		given environment.ResponseHead
		want  StreamHead
	}{
		{environment.ResponseHead{ContentType: "text/html", Streaming: true}, StreamHead{ContentType: "text/html", Streaming: true}},
		{environment.ResponseHead{Streaming: true}, StreamHead{ContentType: "application/octet-stream", Streaming: true}},
		{environment.ResponseHead{ContentType: "text/html"}, StreamHead{ContentType: "text/html"}},
		{environment.ResponseHead{}, StreamHead{ContentType: "application/json"}},
	} {
		var w page
		s := sinkOf(&w, Config{})
		err := s.Begin(test.given)
		test.want.ExecutedVersion, test.want.TraceHeader = "7", "Root=1"
		if err != nil || len(w.heads) != 1 || w.heads[0] != test.want || !s.begun {
			t.Errorf("%+v: %v, %+v", test, err, w.heads)
		}
	}
}

// TestWriterFails: its error is kept as what the caller of Stream is told.
func TestWriterFails(t *testing.T) {
	w := page{err: errors.New("gone")}
	for what, do := range map[string]func(*streamSink) error{
		"head":  func(s *streamSink) error { return s.Begin(environment.ResponseHead{}) },
		"write": func(s *streamSink) error { return s.Write([]byte("x")) },
	} {
		s := sinkOf(&w, Config{})
		if err := do(s); !errors.Is(err, w.err) || !errors.Is(s.failed, w.err) {
			t.Errorf("%s: %v, kept %v", what, err, s.failed)
		}
	}
}

// TestStreamRefused: what did not run has no result and no head.
func TestStreamRefused(t *testing.T) {
	var w page
	i := New(Config{Resolver: one{&firn.FunctionVersion{Name: "f"}}, Fleet: fullFleet(t)})
	for name, want := range map[string]firn.Kind{"f": firn.TooManyRequests, "g": firn.ResourceNotFound} {
		out, err := i.Stream(t.Context(), &Request{Function: firn.FunctionRef{Name: name}}, &w)
		if out != nil || firn.KindOf(err) != want || len(w.heads) > 0 {
			t.Errorf("%s: %+v, %v, %v", name, out, err, w.heads)
		}
	}
}

// TestBandwidth: 6 MB as fast as they come, then 2 MB per second; what was not
// used meanwhile fills the bucket again. (The last piece is not waited for.)
func TestBandwidth(t *testing.T) {
	const piece = 32 << 10
	send := func(t *testing.T, s *streamSink, n int64) time.Duration {
		begin := time.Now()
		for ; n > 0; n -= piece {
			if err := s.Write(make([]byte, min(n, piece))); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(begin)
	}
	near := func(got, want time.Duration) bool {
		return got > want-130*time.Millisecond && got < want+50*time.Millisecond
	}
	for name, test := range map[string]struct {
		cfg        Config
		bytes      int64
		want       time.Duration
		pause      time.Duration
		more       int64
		afterPause time.Duration
	}{
		"within the burst": {Config{}, 6 * firn.MiB, 0, 0, 0, 0},
		"beyond it":        {Config{}, 10 * firn.MiB, 2 * time.Second, 0, 2 * firn.MiB, time.Second},
		"filled again":     {Config{}, 6 * firn.MiB, 0, 2 * time.Second, 6 * firn.MiB, time.Second},
		"not over the top": {Config{}, 0, 0, time.Hour, 8 * firn.MiB, time.Second},
		"200 MB":           {Config{}, 200 * firn.MiB, 97 * time.Second, 0, 0, 0},
		"set":              {Config{StreamBurst: 1 << 20, StreamRate: 1 << 18}, 2 << 20, 4 * time.Second, 0, 0, 0},
		"no limit":         {Config{StreamRate: -1}, 200 * firn.MiB, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := sinkOf(devNull{}, test.cfg)
				if got := send(t, s, test.bytes); !near(got, test.want) {
					t.Errorf("%d bytes took %v, want %v", test.bytes, got, test.want)
				}
				time.Sleep(test.pause) // archtest:sleep virtual time
				if got := send(t, s, test.more); !near(got, test.afterPause) {
					t.Errorf("%d bytes more took %v, want %v", test.more, got, test.afterPause)
				}
			})
		})
	}
}

// TestPaceCallerGone: the wait for the bandwidth ends with the caller.
func TestPaceCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := sinkOf(devNull{}, Config{StreamBurst: 1, StreamRate: 1})
		s.ctx = ctx
		if err := s.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := s.Write([]byte("x")); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(s.failed, err) {
			t.Error(err)
		}
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

type devNull struct{}

func (devNull) Head(StreamHead) error { return nil }
func (devNull) Write([]byte) error    { return nil }
