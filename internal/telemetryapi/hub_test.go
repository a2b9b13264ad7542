package telemetryapi

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

func TestSubscriptionsCloseWithInit(t *testing.T) {
	for _, api := range []API{Telemetry, Logs} {
		prefix := map[API]string{Telemetry: "Telemetry", Logs: "Logs"}[api]
		bubble(t, func(t *testing.T, b *box, h *Hub) {
			h.EndInit()
			for range 2 {
				a := h.Subscribe("logger", api, []byte(`{`)) // what it says no longer matters
				checkAnswer(t, a, 403, prefix+".SubscriptionClosed", prefix+" API subscription is closed already")
				h.Reset()
			}
			h.BeginInit() // the suppressed init
			subscribe(t, h, "logger", api, body{schema: map[API]string{Telemetry: "2022-07-01"}[api], uri: uri1})
			h.Close()
			checkAnswer(t, h.Subscribe("logger", api, functionOnly().json()), 403, prefix+".SubscriptionClosed", "")
			h.BeginInit()
			checkAnswer(t, h.Subscribe("logger", api, functionOnly().json()), 403, prefix+".SubscriptionClosed", "")
		})
	}
	checkAnswer(t, New(Config{}).Subscribe("early", Telemetry, functionOnly().json()), 403, "Telemetry.SubscriptionClosed", "")
}

func TestOneAPIPerExtension(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		subscribe(t, h, "one", Telemetry, body{schema: "2022-07-01", uri: uri1})
		subscribe(t, h, "two", Logs, body{uri: uri1})
		checkAnswer(t, h.Subscribe("one", Logs, body{uri: uri2}.json()), 400, "Logs.AccessDenied", "")
		checkAnswer(t, h.Subscribe("two", Telemetry, body{schema: "2022-07-01", uri: uri1}.json()), 400, "Telemetry.AccessDenied", "")
		if n := h.Stats().Subscriptions; n != 2 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

func TestBoundsOfSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		for i := range MaxSubscriptions + 1 {
			sub := functionOnly()
			sub.uri = fmt.Sprintf("http://sandbox:%d/", 5000+i)
			a := h.Subscribe(fmt.Sprintf("e%d", i/MaxPerExtension), Telemetry, sub.json())
			if (a.Status == 200) != (i < MaxSubscriptions) {
				t.Errorf("subscription %d: %d", i, a.Status)
			}
		}
	})
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		for i := range MaxPerExtension {
			subscribe(t, h, "one", Telemetry, body{schema: "2022-07-01", tcp: 5000 + i})
		}
		checkAnswer(t, h.Subscribe("one", Telemetry, body{schema: "2022-07-01", tcp: 6000}.json()), 400, "ValidationError", "Too many subscriptions")
		subscribe(t, h, "one", Telemetry, body{schema: "2022-12-13", tcp: 5000}) // a change is none more
	})
}

func TestRepeatedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b box
		var web webListener
		var told emitted
		h := b.hub(t, told.add)
		b.listen(4243, web.serve)
		h.BeginInit()
		say(h, "before")
		sub := functionOnly()
		sub.types = []string{"function", "platform"}
		subscribe(t, h, "logger", Telemetry, sub)
		subscribe(t, h, "logger", Telemetry, sub)
		sub.uri = strings.Replace(uri1, ".localdomain", "", 1) // the same place
		subscribe(t, h, "logger", Telemetry, sub)
		h.Line(telemetry.Line{Extension: "x", Text: []byte("of an extension")})
		say(h, "between")
		sub.types, sub.buffering = []string{"function", "extension"}, `{"timeoutMs":25}`
		subscribe(t, h, "logger", Telemetry, sub)
		say(h, "after")
		pass(25 * time.Millisecond)
		pass(time.Second)
		same(t, []string{"before", "platform.telemetrySubscription", "platform.telemetrySubscription", "between", "of an extension", "after"},
			contents(t, web.records()))
		if got := strings.Count(told.types(), "telemetrySubscription"); got != 3 || h.Stats().Subscriptions != 1 {
			t.Errorf("%d records for %d subscriptions", got, h.Stats().Subscriptions)
		}
	})
}

func TestTwoPortsOfOneExtension(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var webs [2]webListener
		b.listen(4243, webs[0].serve)
		b.listen(4244, webs[1].serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		second := functionOnly()
		second.uri, second.types = uri2, []string{"extension"}
		subscribe(t, h, "logger", Telemetry, second)
		say(h, "one")
		h.Line(telemetry.Line{Extension: "x", Text: []byte("two")})
		pass(time.Second)
		same(t, []string{"one"}, contents(t, webs[0].records()))
		same(t, []string{"two"}, contents(t, webs[1].records()))
	})
}

// Who comes late reads what was before, in order, within bounds.
func TestHistory(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var webs [2]webListener
		b.listen(4243, webs[0].serve)
		b.listen(4244, webs[1].serve)
		say(h, numbers(0, 5)...)
		h.Record("", lifecycle.InitStart{})
		subscribe(t, h, "logger", Telemetry, functionOnly())
		say(h, numbers(5, 9)...)
		subscribe(t, h, "other", Telemetry, body{schema: "2022-07-01", uri: uri2})
		say(h, numbers(9, 12)...)
		pass(time.Second)
		same(t, numbers(0, 12), contents(t, webs[0].records()))
		same(t, slices.Concat(numbers(0, 5), []string{"platform.initStart", "platform.telemetrySubscription"}, numbers(5, 9),
			[]string{"platform.telemetrySubscription"}, numbers(9, 12)), contents(t, webs[1].records()))
	})
}

func TestHistoryIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		b.listen(4243, web.serve)
		const more = 300
		say(h, numbers(0, maxHistoryLines+more)...)
		h.Line(telemetry.Line{Extension: "x", Text: []byte("lost, and not asked for")})
		for range maxHistoryRecords + 5 {
			h.Record("", lifecycle.InitStart{})
		}
		sub := functionOnly()
		sub.types = []string{"platform", "function"}
		subscribe(t, h, "logger", Telemetry, sub)
		say(h, "after")
		pass(time.Second)
		got := contents(t, web.records())
		same(t, numbers(0, maxHistoryLines), got[:maxHistoryLines])
		gap := web.records()[maxHistoryLines]
		if !strings.Contains(gap, `"type":"platform.logsDropped","record":{"reason":"The init phase`) ||
			!strings.Contains(gap, fmt.Sprintf(`"droppedRecords":%d,`, more+5)) {
			t.Errorf("in the place of the gap: %s", gap)
		}
		if n := len(got); n != maxHistoryLines+1+maxHistoryRecords+2 || got[n-1] != "after" {
			t.Errorf("%d records, the last %s", n, got[n-1])
		}
	})
	var long history
	for range 100 {
		long.add(happening{line: telemetry.Line{Text: make([]byte, 100_000)}})
	}
	if long.bytes > maxHistoryBytes || long.lostOf(streamFunction).records != 90 || long.lostOf(streamFunction).bytes != 9_000_000 {
		t.Errorf("%d bytes are kept, %+v lost", long.bytes, long.lost)
	}
}

func TestSubscribed(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		want := func(want bool, when string) {
			t.Helper()
			if h.Subscribed() != want {
				t.Errorf("Subscribed is %v %s", !want, when)
			}
		}
		want(true, "in Init")
		h.EndInit()
		want(false, "after an Init without subscriptions")
		say(h, "nobody listens")
		h.BeginInit()
		want(true, "in the next Init")
		subscribe(t, h, "logger", Telemetry, body{schema: "2022-07-01", tcp: 1})
		h.EndInit()
		want(true, "with a subscription")
		h.Reset()
		want(false, "after a Reset")
		h.BeginInit()
		h.Close()
		want(false, "after Close")
	})
	h := New(Config{})
	if h.Subscribed() {
		t.Error("a new Hub has subscribers")
	}
	h.Close()
}

// An invocation's last records wait for the thaw, and then go at once.
func TestFreeze(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		say(h, "one")
		pass(600 * time.Millisecond)
		h.Pause()
		h.Pause() // idempotent
		say(h, "two")
		pass(time.Hour)
		if web.requests() != 0 {
			t.Fatal("delivered into a frozen environment")
		}
		h.Resume()
		h.Resume()
		synctest.Wait() // no time passes
		same(t, []string{"one", "two"}, contents(t, web.records()))

		// What is not yet due is not sent before.
		say(h, "three")
		h.Pause()
		pass(100 * time.Millisecond)
		h.Resume()
		pass(800 * time.Millisecond)
		if n := len(web.records()); n != 2 {
			t.Errorf("%d records before the time is up", n)
		}
		pass(100 * time.Millisecond)
		same(t, []string{"one", "two", "three"}, contents(t, web.records()))

		// A record that comes into an idle, frozen environment.
		h.Pause()
		say(h, "four")
		pass(time.Hour)
		if n := len(web.records()); n != 3 {
			t.Errorf("%d records in frozen state", n)
		}
		h.Resume()
		synctest.Wait()
		same(t, []string{"one", "two", "three", "four"}, contents(t, web.records()))
	})
}

// A request that is under way at the freeze has all its time after the thaw,
// also when it is frozen again and again.
func TestFreezeInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		answer := make(chan struct{})
		web := webListener{reply: func(n int) (string, bool) {
			<-answer
			return ok200, false
		}}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		say(h, "one")
		pass(time.Second)
		for range 3 {
			pass(responseTime - time.Second)
			h.Pause()
			pass(time.Hour)
			h.Resume()
		}
		pass(responseTime - time.Second)
		answer <- struct{}{}
		pass(time.Minute)
		if web.requests() != 1 {
			t.Errorf("%d deliveries of one batch", web.requests())
		}
		// Without a freeze the time does run out, and the answer comes too late.
		say(h, "two")
		pass(time.Second + responseTime + time.Second)
		close(answer)
		pass(time.Minute)
		if web.requests() != 3 {
			t.Errorf("%d requests in all", web.requests())
		}
	})
}

// A dial that runs out of its time because of a freeze is no failure.
func TestFreezeWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var web webListener
		dials := 0
		h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) {
			if dials++; dials == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ours, theirs := net.Pipe()
			go func() { web.serve(theirs); theirs.Close() }()
			return ours, nil
		}})
		defer h.Close()
		h.BeginInit()
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		say(h, "one")
		pass(time.Second + dialTime/2)
		h.Pause()
		pass(time.Hour)
		h.Resume()
		synctest.Wait() // no back-off
		same(t, []string{"one"}, contents(t, web.records()))
	})
}

func TestShutdownFlushes(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		sub := functionOnly()
		sub.buffering = `{"timeoutMs":30000}`
		subscribe(t, h, "logger", Telemetry, sub)
		h.EndInit()
		say(h, "one")
		pass(34 * time.Second) // refused, and now in a long back-off
		b.listen(4243, web.serve)
		h.Shutdown()
		synctest.Wait()
		same(t, []string{"one"}, contents(t, web.records()))
		say(h, "two")
		synctest.Wait()
		same(t, []string{"one", "two"}, contents(t, web.records()))
		h.Shutdown()
		h.Reset()
		h.BeginInit() // batches again
		subscribe(t, h, "logger", Telemetry, sub)
		say(h, "three")
		pass(20 * time.Second)
		if n := len(web.records()); n != 2 {
			t.Errorf("%d records", n)
		}
	})
}

// In Shutdown there is no time for a long back-off.
func TestShutdownRetriesSoon(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(n int) (string, bool) {
			if n < 10 {
				return status(503), false
			}
			return ok200, false
		}}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		h.Shutdown()
		say(h, "last words")
		pass(time.Second)
		same(t, []string{"last words"}, contents(t, web.records()))
	})
}

// After a reset the extension goes on behind the last batch that it has
// acknowledged; then comes the new init.
func TestResetResumes(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(n int) (string, bool) {
			if n == 1 {
				return "HTTP/1.1 2", true // crashed in the middle
			}
			return ok200, false
		}}
		b.listen(4243, web.serve)
		var tcp lineListener
		subscribe(t, h, "logger", Telemetry, functionOnly())
		subscribe(t, h, "shipper", Telemetry, body{schema: "2022-07-01", tcp: 4244, types: []string{"function"}})
		h.EndInit()
		say(h, "acknowledged")
		pass(time.Second)
		say(h, "in flight")
		pass(time.Second)
		b.listen(4243, nil)
		say(h, "buffered")
		h.Shutdown()
		h.Reset()
		say(h, "of the shutdown")
		pass(time.Hour)
		b.listen(4243, web.serve)
		b.listen(4244, tcp.serve)

		h.BeginInit()
		say(h, "new init")
		subscribe(t, h, "logger", Telemetry, functionOnly())
		subscribe(t, h, "shipper", Telemetry, body{schema: "2022-07-01", tcp: 4244, types: []string{"function"}})
		h.EndInit()
		say(h, "new function")
		pass(time.Second)
		same(t, []string{"acknowledged", "in flight", "buffered", "of the shutdown", "new init", "new function"}, contents(t, web.records()))
		same(t, []string{"new init", "new function"}, contents(t, tcp.records()))
		if st := h.Stats(); st.QueuedBytes != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// What is kept goes to the same extension, destination and schema only, and
// not beyond the next init.
func TestResetKeepsForTheSameOnly(t *testing.T) {
	others := map[string]func(t *testing.T, h *Hub){
		"another extension": func(t *testing.T, h *Hub) { subscribe(t, h, "other", Telemetry, functionOnly()) },
		"another destination": func(t *testing.T, h *Hub) {
			sub := functionOnly()
			sub.uri += "x"
			subscribe(t, h, "logger", Telemetry, sub)
		},
		"another schema": func(t *testing.T, h *Hub) {
			sub := functionOnly()
			sub.schema = "2022-12-13"
			subscribe(t, h, "logger", Telemetry, sub)
		},
		"an init later": func(t *testing.T, h *Hub) {
			h.EndInit()
			h.Reset()
			h.BeginInit()
			subscribe(t, h, "logger", Telemetry, functionOnly())
		},
	}
	for name, resubscribe := range others {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *box, h *Hub) {
				subscribe(t, h, "logger", Telemetry, functionOnly())
				h.EndInit()
				say(h, "for the logger")
				h.Reset()
				if h.Stats().QueuedBytes == 0 {
					t.Error("nothing is kept")
				}
				var web webListener
				b.listen(4243, web.serve)
				h.BeginInit()
				resubscribe(t, h)
				h.EndInit()
				say(h, "new")
				pass(time.Second)
				same(t, []string{"new"}, contents(t, web.records()))
				if n := h.Stats().QueuedBytes; n != 0 {
					t.Errorf("%d bytes are still kept", n)
				}
			})
		})
	}
}

// A 200 that was sent just before the processes ended still counts.
func TestResetTakesLastWords(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(n int) (string, bool) {
			time.Sleep(10 * time.Millisecond) // archtest:sleep virtual time
			return ok200, false
		}}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		say(h, "once")
		pass(time.Second) // the request is on its way
		h.Reset()
		h.BeginInit()
		subscribe(t, h, "logger", Telemetry, functionOnly())
		pass(time.Minute)
		if web.requests() != 1 {
			t.Errorf("%d deliveries", web.requests())
		}
	})
}

// Resets of which nobody comes back keep no more than the bound.
func TestResetsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		for i := range 100 {
			h.BeginInit()
			sub := functionOnly()
			sub.uri = fmt.Sprintf("http://sandbox:%d/", 5000+i)
			subscribe(t, h, "logger", Telemetry, sub)
			say(h, strings.Repeat("x", 1000))
			h.Reset()
		}
		if n := h.Stats().QueuedBytes; n > MaxSubscriptions*1100 || n == 0 {
			t.Errorf("%d bytes are kept", n)
		}
		h.BeginInit()
		h.EndInit()
		if n := h.Stats().QueuedBytes; n != 0 || h.Subscribed() {
			t.Errorf("%d bytes are kept", n)
		}
	})
}

// Close waits for nobody who does not answer, read or accept.
func TestCloseIsPrompt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) {
			if port == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ours, theirs := net.Pipe()
			go func() {
				if port == 3 { // reads all, answers nothing
					for buf := make([]byte, 100); ; {
						if _, err := theirs.Read(buf); err != nil {
							break
						}
					}
				}
				<-hang
				theirs.Close()
			}()
			return ours, nil
		}})
		h.BeginInit()
		for port := 1; port <= 4; port++ {
			sub := functionOnly()
			sub.uri = fmt.Sprintf("http://sandbox:%d/", port)
			if port == 4 {
				sub.tcp = port
			}
			subscribe(t, h, "logger", Telemetry, sub)
		}
		say(h, "one")
		pass(2 * time.Second)
		began := time.Now()
		h.Close()
		h.Close()
		if took := time.Since(began); took > 0 {
			t.Errorf("Close took %v", took)
		}
		if st := h.Stats(); st.QueuedBytes != 0 || st.Subscriptions != 0 {
			t.Errorf("%+v", st)
		}
		close(hang)
	})
}

// A TCP connection that breaks in the middle goes on at the record that was
// cut: none comes twice.
func TestTCPResumes(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var lines lineListener
		var first []byte
		b.listen(4243, func(conn net.Conn) {
			first = make([]byte, 200) // two records and a piece
			conn.Read(first)
			b.listen(4243, lines.serve)
		})
		subscribe(t, h, "logger", Telemetry, body{schema: "2022-07-01", tcp: 4243, types: []string{"function"}})
		say(h, numbers(0, 10)...)
		pass(5 * time.Second)
		whole := strings.Split(string(first), "\n")
		same(t, numbers(0, 10), contents(t, append(whole[:len(whole)-1], lines.records()...)))
		if len(whole) != 3 {
			t.Errorf("%d lines at first", len(whole))
		}
		// A break between batches.
		b.listen(4243, func(conn net.Conn) {})
		h.Pause()
		h.Resume()
		say(h, numbers(10, 12)...)
		pass(5 * time.Second)
		same(t, numbers(2, 12), contents(t, lines.records()))
	})
}
