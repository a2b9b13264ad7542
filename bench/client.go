package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// prepared is one signed invocation as it goes over the wire. A signature
// holds for five minutes, so that the client's own work is a write and a read
// and what is measured is firn.
type prepared struct {
	addr   string
	bytes  []byte
	answer int // length of the answer's body, or -1 when it does not matter
}

// prepare signs an invocation of the function.
func (n *node) prepare(ctx context.Context, function string, payload []byte) (*prepared, error) {
	req, err := n.request(ctx, "/2015-03-31/functions/"+function+"/invocations", payload)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := req.Write(&buf); err != nil {
		return nil, err
	}
	return &prepared{addr: req.URL.Host, bytes: buf.Bytes(), answer: len(payload)}, nil
}

// request signs a POST of payload.
func (n *node) request(ctx context.Context, path string, payload []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.endpoint+path, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Amz-Content-Sha256", hash)
	creds := aws.Credentials{AccessKeyID: n.accessKey, SecretAccessKey: n.secret}
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hash, "lambda", n.region, time.Now()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return req, nil
}

// caller is one keep-alive connection.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialCaller(ctx context.Context, addr string) (*caller, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

// invoke sends the request and reads the whole answer into w.
func (c *caller) invoke(p *prepared, w io.Writer) error {
	// The answer may begin before the request is written to its end.
	if _, err := c.conn.Write(p.bytes); err != nil {
		return err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	bad := !bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	said := strings.TrimSpace(string(status))
	length := int64(-1)
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return err
			}
		}
		bad = bad || bytes.HasPrefix(line, []byte("X-Amz-Function-Error"))
	}
	if length < 0 {
		return errors.New("an answer without a length")
	}
	if bad {
		text, _ := io.ReadAll(io.LimitReader(c.in, min(length, 1<<10)))
		return fmt.Errorf("invoke: %s: %s", said, text)
	}
	if p.answer >= 0 && length != int64(p.answer) {
		return fmt.Errorf("an answer of %d bytes in place of %d", length, p.answer)
	}
	_, err = io.CopyN(w, c.in, length)
	return err
}

// load is a number of callers that invoke one after the other.
type load struct {
	callers  int
	duration time.Duration
	space    time.Duration // pause before each call; 0: back to back
}

// result is what a load gave.
type result struct {
	took    []time.Duration
	elapsed time.Duration
}

// warmUp is how long a load of several callers runs before it is counted, so
// that there are as many environments as it needs.
const warmUp = 500 * time.Millisecond

// run makes the load, after some of it that is not counted.
func (l load) run(ctx context.Context, p *prepared) (result, error) {
	callers := make([]*caller, l.callers)
	for i := range callers {
		var err error
		if callers[i], err = dialCaller(ctx, p.addr); err != nil {
			return result{}, err
		}
		defer callers[i].conn.Close()
	}
	each := func(do func(i int) error) error {
		errs := make([]error, len(callers))
		var group sync.WaitGroup
		for i := range callers {
			group.Go(func() { errs[i] = do(i) })
		}
		group.Wait()
		return errors.Join(errs...)
	}
	begin := time.Now()
	if err := each(func(i int) error {
		for {
			if err := callers[i].invoke(p, io.Discard); err != nil || l.callers == 1 || time.Since(begin) > warmUp {
				return err
			}
		}
	}); err != nil {
		return result{}, err
	}
	took := make([][]time.Duration, len(callers))
	begin = time.Now()
	err := each(func(i int) error {
		for time.Since(begin) < l.duration && ctx.Err() == nil {
			if l.space > 0 {
				<-time.After(l.space)
			}
			at := time.Now()
			if err := callers[i].invoke(p, io.Discard); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(at))
		}
		return ctx.Err()
	})
	r := result{elapsed: time.Since(begin)}
	for _, t := range took {
		r.took = append(r.took, t...)
	}
	return r, err
}
