package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/require"
)

// reader is a page of another origin. It reads a stream as browsers do, with a
// header that needs a preflight, and reports when each piece came.
const reader = `<!DOCTYPE html><title>reader</title><script>
(async () => {
	const report = {pieces: [], bytes: 0, error: ""};
	try {
		const res = await fetch(%q, {headers: {"X-Test": "browser"}});
		report.status = res.status;
		report.kind = res.headers.get("content-type");
		const body = res.body.getReader(), text = new TextDecoder();
		for (;;) {
			const {done, value} = await body.read();
			if (done) break;
			report.bytes += value.length;
			if (report.pieces.length < 100) report.pieces.push({at: performance.now(), text: text.decode(value.slice(0, 40))});
			report.last = performance.now();
		}
	} catch (e) { report.error = String(e); }
	await fetch("/report", {method: "POST", body: JSON.stringify(report)});
})();
</script>`

// report is what the page tells.
type report struct {
	Status int
	Kind   string
	Bytes  int
	Error  string
	Last   float64 // milliseconds
	Pieces []struct {
		At   float64
		Text string
	}
}

// watch lets a browser read a URL from a page of another origin.
func watch(t *testing.T, origin *httptest.Server, told chan report, path string) report {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--user-data-dir="+t.TempDir(), origin.URL+path)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() // it is killed: there is nothing to learn from how it ends
	defer cmd.Process.Kill()
	select {
	case r := <-told:
		return r
	case <-time.After(4 * patience):
		t.Fatal("the browser does not report")
	}
	panic("unreachable: Fatal ends the test")
}

// TestStreamedURLMuch: the greatest answer through a URL, in little memory.
func TestStreamedURLMuch(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--quiet", "--stream-mbps", "0"}})
	url := n.streamingURL(nil)
	n.get(url+"cookies").expect(t, 303, "") // and the environment is warm
	base, highest := n.memory(), n.watch()
	begun := time.Now()
	res, err := n.visitor().Get(url + much)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := time.Since(begun)
	if got, err := io.Copy(io.Discard, res.Body); err != nil || got != muchMB<<20 {
		t.Errorf("%d bytes, %v", got, err)
	}
	took, grown := time.Since(begun), highest()-base
	t.Logf("%d MiB: first byte after %v, %.0f MB/s, %.1f MiB more memory", muchMB, first.Round(time.Millisecond), float64(muchMB<<20)/1e6/took.Seconds(), float64(grown)/(1<<20))
	if first > took/2 || grown > memoryBound {
		t.Errorf("the first byte came after %v of %v, with %d bytes more memory", first, took, grown)
	}
}

// muchMB is nearly the limit, which counts the prelude too.
const muchMB = streamedMB - 1

// much is where the web application answers with muchMB.
const much = "bytes?mb=199"

// streamingURL makes a web application with a URL that streams.
func (n *node) streamingURL(cors *types.Cors) string {
	n.t.Helper()
	n.web("web", "stream")
	url := n.functionURL(&lambda.CreateFunctionUrlConfigInput{
		FunctionName: aws.String("web"), AuthType: types.FunctionUrlAuthTypeNone, InvokeMode: types.InvokeModeResponseStream, Cors: cors,
	})
	n.permitAll("web")
	return url
}

// TestBrowser watches streams in a real browser: across origins, by CORS and
// its preflight, piece by piece as the function writes them; and one of the
// greatest size.
func TestBrowser(t *testing.T) {
	_, err := exec.LookPath("chromium")
	require.Feature(t, "chromium", err == nil, "install it, for example: apt-get install chromium")
	needLinux(t)
	n := start(t, options{args: []string{"--quiet", "--stream-mbps", "0"}})

	told := make(chan report, 1)
	// The pages are told apart by their paths; where they read from is known
	// once there is a node, before anybody asks.
	var url atomic.Pointer[string]
	reads := map[string]string{"/pieces": "stream?n=6&ms=250", "/much": much}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/report" {
			var out report
			if err := json.NewDecoder(r.Body).Decode(&out); err != nil {
				t.Error(err)
			}
			told <- out
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, reader, *url.Load()+reads[r.URL.Path])
	}))
	defer origin.Close()
	base := n.streamingURL(&types.Cors{AllowOrigins: []string{origin.URL}, AllowMethods: []string{"GET"}, AllowHeaders: []string{"x-test"}})
	url.Store(&base)

	r := watch(t, origin, told, "/pieces")
	if r.Error != "" || r.Status != 200 || r.Kind != "text/event-stream" || len(r.Pieces) != 6 {
		t.Fatalf("%+v", r)
	}
	for i, p := range r.Pieces {
		if p.Text != fmt.Sprintf("data: piece %d\n\n", i) || i > 0 && p.At-r.Pieces[i-1].At < 100 {
			t.Errorf("piece %d: %+v", i, r.Pieces)
		}
	}
	before, highest := n.memory(), n.watch()
	r = watch(t, origin, told, "/much")
	grown := highest() - before
	if r.Error != "" || r.Bytes != muchMB<<20 || len(r.Pieces) < 100 || grown > memoryBound {
		t.Errorf("%d bytes in %d pieces and more, %s; %d bytes more memory", r.Bytes, len(r.Pieces), r.Error, grown)
	}
	t.Logf("%d MiB in %.0f ms after the first piece, %.1f MiB more memory", muchMB, r.Last-r.Pieces[0].At, float64(grown)/(1<<20))
}
