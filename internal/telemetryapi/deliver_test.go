package telemetryapi

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/telemetry"
)

// bubble runs a test in virtual time, with a Hub in Init.
func bubble(t *testing.T, test func(t *testing.T, b *box, h *Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var b box
		h := b.hub(t, nil)
		h.BeginInit()
		test(t, &b, h)
	})
}

func same(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// pass lets virtual time go by, and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d) // archtest:sleep virtual time
	synctest.Wait()
}

func TestFlushByTime(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		b.listen(4243, web.serve)
		sub := functionOnly()
		sub.buffering = `{"timeoutMs":25}`
		subscribe(t, h, "logger", Telemetry, sub)
		for round := range 3 {
			say(h, numbers(2*round, 2*round+1)...)
			pass(20 * time.Millisecond)
			say(h, numbers(2*round+1, 2*round+2)...) // does not put it off
			pass(4 * time.Millisecond)
			if n := web.requests(); n != round {
				t.Fatalf("%d deliveries before the time is up", n)
			}
			pass(time.Millisecond)
			same(t, numbers(0, 2*round+2), contents(t, web.records()))
			pass(time.Minute) // idle
		}
		if len(b.dials) != 1 {
			t.Errorf("%d connections for one listener that keeps them", len(b.dials))
		}
	})
}

func TestFlushByItemsAndBytes(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		b.listen(4243, web.serve)
		sub := functionOnly()
		sub.buffering = `{"maxItems":1000,"timeoutMs":30000}`
		subscribe(t, h, "logger", Telemetry, sub)
		say(h, numbers(0, 999)...)
		synctest.Wait()
		if web.requests() != 0 {
			t.Error("999 items went out")
		}
		say(h, numbers(999, 1001)...)
		synctest.Wait()
		same(t, numbers(0, 1000), contents(t, web.records()))

		// 200 KB, and then more than fits below twice maxBytes.
		say(h, strings.Repeat("a", 200_000), strings.Repeat("b", 250_000), strings.Repeat("c", 200_000), strings.Repeat("d", 63_000))
		synctest.Wait()
		sizes := []int{}
		for _, batch := range web.batches[1:] {
			sizes = append(sizes, len(strings.Join(batch, ",")))
			if got := sizes[len(sizes)-1]; got > 2*defaultMaxBytes {
				t.Errorf("a delivery of %d bytes", got)
			}
		}
		if len(sizes) != 2 {
			t.Errorf("deliveries of %d", sizes)
		}
		// A full open batch and one record that would not fit any more.
		say(h, strings.Repeat("e", 262_000), strings.Repeat("\x01", 60_000))
		synctest.Wait()
		for _, batch := range web.batches {
			if n := len(strings.Join(batch, ",")); n > 2*defaultMaxBytes {
				t.Errorf("a delivery of %d bytes", n)
			}
		}
		h.Shutdown()
		synctest.Wait()
		if n := len(web.records()); n != 1007 {
			t.Errorf("%d records", n)
		}
	})
}

func TestMethodPUT(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Logs, body{uri: "http://sandbox:4243/a/b?c", method: "PUT"})
		pass(time.Second)
		if head := web.heads[0]; head.Method != "PUT" || head.RequestURI != "/a/b?c" || head.Host != "sandbox:4243" {
			t.Errorf("%s %s of %s", head.Method, head.RequestURI, head.Host)
		}
	})
}

// A listener that comes late: back-off doubles to its bound, nothing is lost.
func TestListenerComesLate(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		bubble(t, func(t *testing.T, b *box, h *Hub) {
			sub := functionOnly()
			if tcp {
				sub.tcp = 4243
			}
			subscribe(t, h, "logger", Telemetry, sub)
			begin := time.Now()
			say(h, numbers(0, 3)...)
			pass(10 * time.Second)
			say(h, numbers(3, 6)...)
			var web webListener
			var lines lineListener
			b.mu.Lock()
			var at []time.Duration
			for _, dial := range b.dials {
				at = append(at, dial.Sub(begin))
			}
			b.mu.Unlock()
			ms := time.Millisecond
			want := []time.Duration{1000 * ms, 1050 * ms, 1150 * ms, 1350 * ms, 1750 * ms, 2550 * ms, 4150 * ms, 6150 * ms, 8150 * ms}
			if !slices.Equal(at, want) {
				t.Errorf("attempts at %v, want %v", at, want)
			}
			b.listen(4243, web.serve)
			if tcp {
				b.listen(4243, lines.serve)
			}
			pass(2 * time.Second)
			same(t, numbers(0, 6), contents(t, append(web.records(), lines.records()...)))
		})
	}
}

// What a listener can answer, and whether the batch is sent again.
func TestResponses(t *testing.T) {
	endless := "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100)
	tests := []struct {
		name     string
		response string
		hangUp   bool
		again    bool // a second delivery
		dials    int
	}{
		{"200", ok200, false, false, 1},
		{"200 without reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, false, 1},
		{"200 with body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, false, 1},
		{"200 with chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: x\r\n\r\n", false, false, 1},
		{"200 with LF only", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", false, false, 1},
		{"200 after 100", "HTTP/1.1 100 Continue\r\n\r\n" + ok200, false, false, 1},
		{"200 and close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true, false, 2},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.9\r\n\r\n", true, false, 2},
		{"HTTP/1.0 that keeps", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", false, false, 1},
		{"up to the end", "HTTP/1.1 200 OK\r\n\r\nhello", true, false, 2},
		{"up to an end that does not come", "HTTP/1.1 200 OK\r\n\r\nhello", false, false, 2},
		{"hangs up after 200 unasked", ok200, true, false, 2},
		{"200 with more behind", ok200 + "HTTP/1.1 500 Oh\r\n\r\n", false, false, 2},
		{"200, cut in the head", "HTTP/1.1 200 OK\r\nCont", true, false, 2},
		{"200, garbage in the head", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", false, false, 2},
		{"200, two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, false, 2},
		{"200, negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", false, false, 2},
		{"200, length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, false, 2},
		{"200, bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false, false, 2},
		{"200, huge chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", false, false, 2},
		{"200, huge body", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", false, false, 2},
		{"200, endless head", endless, false, false, 2},
		{"200, cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", true, false, 2},
		{"500", status(500), false, true, 1},
		{"404", status(404), false, true, 1},
		{"202", status(202), false, true, 1},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", false, true, 1},
		{"301", status(301), false, true, 1},
		{"500 and close", "HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n", true, true, 2},
		{"cut in the status line", "HTTP/1.1 200", true, true, 2},
		{"cut before it", "", true, true, 2},
		{"garbage", "SSH-2.0-OpenSSH_9.6\r\n", false, true, 2},
		{"endless line", strings.Repeat("x", 100<<10), false, true, 2},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", false, true, 2},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n", false, true, 2},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", false, true, 2},
		{"status 000", "HTTP/1.1 000 OK\r\n\r\n", false, true, 2},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n", false, true, 2},
		{"only interim responses", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), false, true, 2},
		{"interim response without end", "HTTP/1.1 102 Processing\r\n" + endless[17:], false, true, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *box, h *Hub) {
				web := webListener{reply: func(n int) (string, bool) {
					if n == 0 {
						return test.response, test.hangUp
					}
					return ok200, false
				}}
				b.listen(4243, web.serve)
				subscribe(t, h, "logger", Telemetry, functionOnly())
				say(h, numbers(0, 3)...)
				pass(5 * time.Second)
				say(h, numbers(3, 6)...)
				pass(40 * time.Second)
				want := [][]string{numbers(0, 3), numbers(3, 6)}
				if test.again {
					want = [][]string{numbers(0, 3), numbers(0, 3), numbers(3, 6)}
				}
				var got [][]string
				for _, batch := range web.batches {
					got = append(got, contents(t, batch))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("deliveries (-want +got):\n%s", diff)
				}
				if len(b.dials) != test.dials {
					t.Errorf("%d connections, want %d", len(b.dials), test.dials)
				}
				if st := h.Stats(); st.Delivered != 6 || st.Dropped != 0 || st.QueuedBytes != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestTwiceFailedThenTaken(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(n int) (string, bool) {
			if n < 2 {
				return status(500), false
			}
			return ok200, false
		}}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		say(h, numbers(0, 5)...)
		pass(1020 * time.Millisecond)
		say(h, numbers(5, 9)...) // must stay behind
		pass(2 * time.Second)
		same(t, numbers(0, 9), contents(t, web.records()))
		if web.requests() != 4 {
			t.Errorf("%d requests, want 4", web.requests())
		}
	})
}

// A kept connection that was closed meanwhile is no failure of the listener.
func TestKeptConnectionClosed(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(int) (string, bool) { return ok200, true }}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		for round := range 3 {
			say(h, numbers(round, round+1)...)
			pass(time.Second) // to the instant: there was no back-off
			same(t, numbers(0, round+1), contents(t, web.records()))
		}
	})
}

// Slow is not failed: an answer after 29 s is an answer, and nothing comes
// twice; what was said meanwhile goes in the next delivery.
func TestSlowListener(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(int) (string, bool) {
			time.Sleep(29 * time.Second) // archtest:sleep virtual time
			return ok200, false
		}}
		b.listen(4243, web.serve)
		subscribe(t, h, "logger", Telemetry, functionOnly())
		for i := range 100 {
			say(h, numbers(i, i+1)...)
			pass(time.Second)
		}
		pass(2 * time.Minute)
		same(t, numbers(0, 100), contents(t, web.records()))
		if web.requests() > 5 {
			t.Errorf("%d requests", web.requests())
		}
	})
}

// A listener that never reads holds no more than its queue, and the flood does
// not wait. When it reads at last, one record tells what is missing, and where.
func TestStuckListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b box
		var web webListener
		var told emitted
		h := b.hub(t, told.add)
		h.BeginInit()
		var free atomic.Bool
		b.listen(4243, func(conn net.Conn) {
			if free.Load() {
				web.serve(conn)
				return
			}
			io.ReadFull(conn, make([]byte, 100)) // and no more
			time.Sleep(time.Hour)                // archtest:sleep virtual time
		})
		sub := functionOnly()
		sub.types = []string{"platform", "function"}
		subscribe(t, h, "logger", Telemetry, sub)
		h.EndInit()
		text := strings.Repeat("x", 1000)
		const flood = 50_000
		for range flood {
			say(h, text)
			if queued := h.Stats().QueuedBytes; queued > queueFactor*defaultMaxBytes {
				t.Fatalf("%d bytes are queued", queued)
			}
		}
		if held := heldBytes(h); held > 2*queueFactor*defaultMaxBytes {
			t.Errorf("%d bytes are held", held)
		}
		free.Store(true)
		pass(time.Minute)
		say(h, "after")
		pass(time.Minute)
		got := contents(t, web.records())
		dropped := h.Stats().Dropped
		at := slices.Index(got, "platform.logsDropped")
		if got[0] != "platform.telemetrySubscription" || at < 0 || got[len(got)-1] != "after" ||
			slices.Contains(got[at+1:], "platform.logsDropped") || at != len(got)-2 {
			t.Fatalf("logsDropped is record %d of %d", at, len(got))
		}
		if lines := int64(len(got) - 3); lines+dropped != flood {
			t.Errorf("%d lines came and %d were dropped, of %d", lines, dropped, flood)
		}
		record := fmt.Sprintf(`"record":{"reason":"Consumer seems to have fallen behind as it has not acknowledged receipt of logs.","droppedRecords":%d,"droppedBytes":%d}}`,
			dropped, dropped*int64(len(`{"time":"2000-01-01T00:00:00.000Z","type":"function","record":"\n"}`)+1000))
		if !strings.HasSuffix(web.records()[at], record) {
			t.Errorf("%s\nwant %s", web.records()[at], record)
		}
		if told.types() != "platform.telemetrySubscription platform.logsDropped" {
			t.Errorf("the other sinks were told %s", told.types())
		}
	})
}

// heldBytes is the memory of all batches, used or not.
func heldBytes(h *Hub) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, s := range slices.Concat(h.subs, h.kept) {
		for _, b := range s.sealed {
			n += cap(b.buf)
		}
		if s.open != nil {
			n += cap(s.open.buf)
		}
		n += cap(s.spare)
	}
	return n
}

// Overload that goes on: gaps are told in their places, and the sum is right.
func TestGapsStayInPlace(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		web := webListener{reply: func(int) (string, bool) {
			time.Sleep(100 * time.Millisecond) // archtest:sleep virtual time
			return ok200, false
		}}
		b.listen(4243, web.serve)
		sub := functionOnly()
		sub.types = []string{"platform", "function"}
		subscribe(t, h, "logger", Telemetry, sub)
		h.EndInit()
		pad := strings.Repeat("x", 4000)
		const rounds, each = 40, 100
		for i := range rounds * each {
			say(h, fmt.Sprintf("%d %s", i, pad))
			if i%each == 0 {
				pass(50 * time.Millisecond)
			}
		}
		pass(time.Minute)
		next, gaps := 0, 0
		for i, text := range contents(t, web.records()) {
			if text == "platform.logsDropped" {
				var n int
				_, tail, _ := strings.Cut(web.records()[i], `"droppedRecords":`)
				fmt.Sscanf(tail, "%d", &n)
				next += n
				gaps++
				continue
			}
			if i == 0 {
				continue // the subscription
			}
			var n int
			fmt.Sscanf(text, "%d ", &n)
			if n != next {
				t.Fatalf("line %d where %d is due, after %d gaps", n, next, gaps)
			}
			next++
		}
		if next != rounds*each || gaps < 2 {
			t.Errorf("%d of %d lines accounted for, in %d gaps", next, rounds*each, gaps)
		}
	})
}

// A subscriber without platform records is not told of drops, and goes on.
func TestDropsOfLinesOnly(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		var web webListener
		subscribe(t, h, "logger", Telemetry, functionOnly())
		h.EndInit()
		text := strings.Repeat("x", 100_000)
		for range 50 {
			say(h, text)
		}
		b.listen(4243, web.serve)
		pass(3 * time.Second)
		n := len(web.records())
		say(h, "after")
		pass(3 * time.Second)
		got := contents(t, web.records())
		if n < 15 || n > 25 || len(got) != n+1 || got[n] != "after" {
			t.Errorf("%d and then %d records", n, len(got))
		}
	})
}

// All subscriptions together are bounded too; one that got nothing at all
// recovers nevertheless.
func TestHubBound(t *testing.T) {
	bubble(t, func(t *testing.T, b *box, h *Hub) {
		for i := range MaxSubscriptions {
			sub := functionOnly()
			sub.uri = fmt.Sprintf("http://sandbox:%d/", 5000+i)
			sub.buffering = `{"maxBytes":1048576}`
			subscribe(t, h, fmt.Sprintf("e%d", i/MaxPerExtension), Telemetry, sub)
		}
		h.EndInit()
		for range 200 {
			h.Line(telemetry.Line{Text: []byte(strings.Repeat("x", 100_000))})
			if st := h.Stats(); st.QueuedBytes > maxHubBytes {
				t.Fatalf("%d bytes are queued", st.QueuedBytes)
			}
		}
		if h.Stats().Dropped == 0 {
			t.Fatal("the bound was not reached")
		}
		webs := make([]webListener, MaxSubscriptions)
		for i := range webs {
			b.listen(5000+i, webs[i].serve)
		}
		pass(10 * time.Second)
		say(h, "one") // may be lost, but has the deliverers look
		pass(10 * time.Second)
		say(h, "two")
		pass(10 * time.Second)
		for i := range webs {
			if got := contents(t, webs[i].records()); len(got) == 0 || got[len(got)-1] != "two" {
				t.Errorf("subscriber %d is stuck with %d records", i, len(got))
			}
		}
	})
}
