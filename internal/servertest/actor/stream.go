package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// streamType is the content type of a streamed response unless the order says
// otherwise in "type".
const streamType = "text/plain; charset=utf-8"

// stream answers with a streamed response: o.N chunks, o.Ms apart, each of
// o.Size bytes or else a line with its number. o.Arg says what comes after
// them: "" the end, "trailer" an error, "hang up" a broken connection, "exit" the
// end of the process, "oom" too much memory, "hang" nothing at all.
func stream(id string, o order) {
	body, w := io.Pipe()
	req, err := http.NewRequest("POST", api()+"/2018-06-01/runtime/invocation/"+id+"/response", body)
	if err != nil {
		fail("stream: %v", err)
	}
	req.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	req.Header.Set("Content-Type", streamType)
	if o.Type != "" {
		req.Header.Set("Content-Type", o.Type)
	}
	req.Trailer = http.Header{"Lambda-Runtime-Function-Error-Type": nil, "Lambda-Runtime-Function-Error-Body": nil}
	go func() { w.CloseWithError(chunks(w, o, req.Trailer)) }()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println("stream broken off:", err)
		return
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		fmt.Printf("stream refused: %d %s\n", resp.StatusCode, bytes.TrimSpace(answer))
	}
}

// chunks writes what a stream is made of; an error breaks the connection.
func chunks(w io.Writer, o order, trailer http.Header) error {
	if o.Prelude != "" {
		if _, err := io.WriteString(w, o.Prelude); err != nil {
			return err
		}
	}
	block := bytes.Repeat([]byte{'m'}, o.Size)
	for i := range o.N {
		if i > 0 {
			time.Sleep(time.Duration(o.Ms) * time.Millisecond) // archtest:sleep the function's work
		}
		p := block
		if o.Size == 0 {
			p = fmt.Appendf(nil, "chunk %d\n", i)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	if o.Arg != "" {
		time.Sleep(100 * time.Millisecond) // archtest:sleep until the client has sent what was written
	}
	switch o.Arg {
	case "trailer":
		trailer.Set("Lambda-Runtime-Function-Error-Type", "Function.Midway")
		trailer.Set("Lambda-Runtime-Function-Error-Body", base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"midway","errorType":"Function.Midway"}`)))
	case "hang up":
		return errors.New("hanging up")
	case "exit":
		os.Exit(7)
	case "oom":
		eat(1 << 14)
	case "hang":
		hang()
	}
	return nil
}
