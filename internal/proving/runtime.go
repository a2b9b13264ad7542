package proving

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// event tells the scripted runtime what to do.
type event struct {
	Do string `json:"do"` // "work", "hang" or "exit"
	Ms int    `json:"ms,omitempty"`
}

// What the runtime can do.
const (
	doWork = "work" // print a line, work for Ms milliseconds, answer
	doHang = "hang" // until the timeout
	doExit = "exit" // with status 1, in the middle of the invocation
)

// Runtime is the function that the extensions under test live beside: the
// bootstrap of a custom runtime whose events say what is to happen. It returns
// when it cannot go on, with the status to exit with.
func Runtime(api string, out io.Writer) int {
	base := "http://" + api + "/2018-06-01/runtime/invocation/"
	for {
		id, raw, err := next(base)
		if err != nil {
			fmt.Fprintln(out, "next:", err)
			return 1
		}
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			fmt.Fprintln(out, "event:", err)
			return 1
		}
		switch e.Do {
		case doHang:
			select {}
		case doExit:
			return 1
		}
		fmt.Fprintln(out, "the function works for", e.Ms, "ms")
		<-time.After(time.Duration(e.Ms) * time.Millisecond)
		resp, err := http.Post(base+id+"/response", "application/json", bytes.NewReader(raw))
		if err != nil {
			fmt.Fprintln(out, "response:", err)
			return 1
		}
		resp.Body.Close()
	}
}

func next(base string) (id string, event []byte, err error) {
	resp, err := http.Get(base + "next")
	if err != nil {
		return "", nil, err
	}
	defer resp.Body.Close()
	event, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, event)
	}
	return resp.Header.Get("Lambda-Runtime-Aws-Request-Id"), event, err
}

// IsRuntime says whether this process was started as the bootstrap of a
// proving function: the archive of one holds the program itself.
func IsRuntime(args []string) bool {
	return os.Getenv(runtimeVariable) != "" && len(args) > 0 && os.Getenv("AWS_LAMBDA_RUNTIME_API") != ""
}

// runtimeVariable marks the functions that proving makes.
const runtimeVariable = "FIRN_PROVING"
