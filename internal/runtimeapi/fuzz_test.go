package runtimeapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// memory is a connection that holds what its peer has sent, in pieces.
type memory struct {
	net.Conn
	left []byte
	step int
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, m.left[:min(len(m.left), max(1, m.step))])
	m.left = m.left[n:]
	return n, nil
}

// FuzzHead compares with net/http: what it refuses may be refused for other
// reasons, but what both take they must understand alike.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST /x HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n0\r\n\r\n",
		"GET http://h/p?q HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
	} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 1000)
	}
	f.Fuzz(func(t *testing.T, p []byte, step int) {
		var in input
		in.init(&memory{left: p, step: step})
		var h head
		if err := in.readHead(&h, func() {}); err != nil {
			return
		}
		body := newBodyReader(&in, &h)
		b, bodyErr := body.readInto(new(Buffers).get(0), maxErrorBytes)

		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimLeft(p, "\r\n"))))
		if err != nil {
			return
		}
		if req.Method != string(h.method) {
			t.Errorf("method %q, net/http has %q", h.method, req.Method)
		}
		want, err := io.ReadAll(req.Body)
		if err == nil && bodyErr == nil && !bytes.Equal(want, b.Bytes()) {
			t.Errorf("body %q, net/http has %q", b.Bytes(), want)
		}
	})
}

// FuzzStream reads a body by pieces and compares with reading it whole.
func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nLambda-Runtime-Function-Error-Type: A.B\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n",
		"1\na\n1\nb\n0\n\n",
		"1\r\na\r\n00\r\n\r\n",
		"5\r\nab",
		"1\r\nab",
		"fffffff\r\n",
	} {
		for _, step := range []int{1, 7, 4096} {
			f.Add([]byte(s), step, 16)
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, step, size int) {
		read := func() (bodyReader, *input) {
			in := new(input)
			in.init(&memory{left: p, step: step})
			return newBodyReader(in, &head{chunked: true}), in
		}
		whole, _ := read()
		want, wantErr := whole.readInto(new(Buffers).get(0), 1<<20)
		if errors.Is(wantErr, errBodyTooLarge) {
			return
		}
		body, in := read()
		in.widen(streamPiece)
		var got []byte
		var err error
		for piece := make([]byte, min(max(size, 1), streamPiece)); err == nil && !body.ended; {
			var n int
			if n, err = body.readSome(piece); n == 0 && err == nil && !body.ended {
				t.Fatal("nothing was read, and it is no error")
			}
			got = append(got, piece[:n]...)
		}
		if ended := err == nil; ended != (wantErr == nil) {
			t.Errorf("by pieces: %v, whole: %v", err, wantErr)
		}
		if !bytes.HasPrefix(got, want.Bytes()) || wantErr == nil && len(got) > len(want.Bytes()) { // half a chunk is received
			t.Errorf("by pieces %q, whole %q", got, want.Bytes())
		}
		if body.trailers != whole.trailers {
			t.Errorf("trailers %+v, %+v", body.trailers, whole.trailers)
		}
		body.trailers.decode()
	})
}

// FuzzConnection feeds a whole server: it must neither hang nor panic,
// whatever comes in.
func FuzzConnection(f *testing.F) {
	for _, s := range []string{
		nextRequest + nextRequest,
		"POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n" + nextRequest,
		"POST /2018-06-01/runtime/invocation/i/error HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
		"POST /2020-01-01/extension/register HTTP/1.1\r\nHost: a\r\nLambda-Extension-Name: e\r\nContent-Length: 2\r\n\r\n{}",
		"PUT /2022-07-01/telemetry HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r := newRig(t)
		ours, theirs := net.Pipe()
		r.server.add(theirs)
		if err := ours.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, ours)
			read <- err
		}()
		ours.Write(p) // fails when the server has hung up
		ours.Close()
		<-read
		r.server.CloseConnections()
	})
}

func FuzzRegister(f *testing.F) {
	f.Add([]byte(`{"events":["INVOKE","SHUTDOWN"]}`))
	f.Add([]byte(`{"configurationKeys":["a"]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, p []byte) {
		events, err := decodeRegister(p)
		if err == nil && len(events) > maxEvents {
			t.Error("more events than may be")
		}
	})
}

func FuzzErrorType(f *testing.F) {
	f.Add("Runtime.Foo")
	f.Add("Function.\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := sanitiseErrorType(s)
		if len(got) > 200 || sanitiseErrorType(got) != got {
			t.Errorf("%q gives %q", s, got)
		}
		for _, c := range []byte(got) {
			if c < '.' || c > 'z' {
				t.Errorf("%q gives %q", s, got)
			}
		}
	})
}

func FuzzWithoutCause(f *testing.F) {
	f.Add([]byte(`{"errorMessage":"m","errorCause":{}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		if bytes.Contains(withoutCause(p), []byte("errorCause")) && !bytes.Contains(p, []byte("errorCause")) {
			t.Error("a cause from nowhere")
		}
	})
}
