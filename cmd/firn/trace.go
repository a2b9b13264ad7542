package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/timeline"
	"github.com/firn-run/firn/internal/trace"
)

// traceFlags are the flags of `firn trace`.
type traceFlags struct {
	dataDir, region, account string
	output, svg, function    string
	last                     bool
	slow                     time.Duration
	limit                    int
}

const (
	// traceTimeout bounds one question to the node, traceAnswer its answer.
	traceTimeout = 15 * time.Second
	traceAnswer  = 64 << 20
	// wholeID is the length of a request id; a shorter one is a prefix.
	wholeID = 36
	// requestIDLetters are what request ids are made of.
	requestIDLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
)

func newTrace() *cobra.Command {
	f := &traceFlags{}
	cmd := &cobra.Command{
		Use:   "trace [request-id]",
		Short: "Show what made an invocation slow",
		Long: "Show the timeline of one invocation: init of each extension and of the runtime, the\n" +
			"function, the answer, what extensions did after it, and who was waited for. A unique\n" +
			"beginning of the request id is enough. Without one, list recent invocations.",
		Example: "  firn trace\n  firn trace --function hello --slow 500ms\n  firn trace --last\n  firn trace 8ec66a5e --svg slow.svg",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			return f.run(cmd, id)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.function, "function", "", "only invocations of this function (name, or name:version)")
	flags.BoolVar(&f.last, "last", false, "show the timeline of the newest invocation")
	flags.DurationVar(&f.slow, "slow", 0, "only invocations that took at least so long, as 250ms")
	flags.IntVar(&f.limit, "limit", 25, "how many invocations to list")
	flags.StringVar(&f.svg, "svg", "", "write the timeline as an SVG file (-: to standard output)")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	flags.StringVar(&f.dataDir, "data", defaultDataDir(), "data directory of the running firn")
	flags.StringVar(&f.region, "region", server.DefaultRegion, "region given to firn up")
	flags.StringVar(&f.account, "account", server.DefaultAccount, "account given to firn up")
	return cmd
}

func (f *traceFlags) run(cmd *cobra.Command, id string) error {
	switch {
	case f.output != "text" && f.output != "json":
		return fmt.Errorf("unknown output %q: choose text or json", f.output)
	case strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(requestIDLetters, r) }):
		return fmt.Errorf("%q is not a request id", id)
	case id != "" && (f.last || f.function != "" || f.slow != 0):
		return errors.New("a request id says which invocation: --last, --function and --slow choose among many")
	case f.svg != "" && id == "" && !f.last:
		return errors.New("--svg draws one invocation: give its request id, or --last")
	}
	endpoint, err := server.ReadEndpoint(f.dataDir)
	if err != nil {
		return err
	}
	root, err := server.RootCredentials(f.dataDir, f.account)
	if err != nil {
		return err
	}
	node := &traceClient{endpoint: endpoint, region: f.region, root: root}
	if id == "" && !f.last {
		return f.list(cmd, node)
	}
	return f.one(cmd, node, id)
}

// list prints recent invocations, the newest last.
func (f *traceFlags) list(cmd *cobra.Command, node *traceClient) error {
	listing, err := f.recent(cmd.Context(), node, f.limit)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		return indented(out, listing)
	}
	if len(listing.Invocations) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), f.nothing())
		return nil
	}
	return printInvocations(out, listing.Invocations)
}

func (f *traceFlags) recent(ctx context.Context, node *traceClient, limit int) (listing trace.Listing, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if f.function != "" {
		q.Set("function", f.function)
	}
	if f.slow != 0 {
		q.Set("slow", f.slow.String())
	}
	return listing, node.get(ctx, trace.Path+"?"+q.Encode(), &listing)
}

// nothing says why there is nothing to show.
func (f *traceFlags) nothing() string {
	if f.function != "" || f.slow != 0 {
		return "no invocation that firn remembers is like this; firn trace lists all of them"
	}
	return "nothing was invoked since firn was started"
}

func printInvocations(out io.Writer, list []trace.Summary) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tFUNCTION\tREQUEST ID\tDURATION\tINIT\tSTATUS\tSLOW")
	for _, i := range list {
		function := i.Function
		if i.Version != "" && i.Version != "$LATEST" {
			function += ":" + i.Version
		}
		status := i.Status
		switch {
		case status == "":
			status = "running"
		case i.ErrorType != "":
			status += " (" + i.ErrorType + ")"
		}
		cells := []string{i.Time.Local().Format("15:04:05.000"), function, i.RequestID, duration(i.Duration), duration(i.Init), status, i.Slow}
		for n := range cells {
			cells[n] = onOneLine(cells[n])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// duration is a cell with a duration; what there is not, a dash.
func duration(o timeline.Offset) string {
	if o == 0 {
		return "-"
	}
	return o.String()
}

// onOneLine keeps a cell in its place: error types are the function's words.
func onOneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
}

// one shows one invocation.
func (f *traceFlags) one(cmd *cobra.Command, node *traceClient, id string) error {
	ctx := cmd.Context()
	if id == "" {
		listing, err := f.recent(ctx, node, 1)
		if err != nil {
			return err
		}
		if len(listing.Invocations) == 0 {
			return errors.New(f.nothing())
		}
		id = listing.Invocations[0].RequestID
	}
	t, err := node.timeline(ctx, id)
	if err != nil {
		return err
	}
	if f.svg != "" {
		if err := f.writeSVG(cmd, t); err != nil || f.svg == "-" {
			return err
		}
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		return indented(out, t)
	}
	opts := timeline.TextOptions{Width: 100, Local: time.Local}
	opts.Colour = isTerminal(out)
	if file, ok := out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			opts.Width = width
		}
	}
	_, err = io.WriteString(out, timeline.Text(t, opts))
	return err
}

func (f *traceFlags) writeSVG(cmd *cobra.Command, t *timeline.Timeline) error {
	if f.svg == "-" {
		_, err := cmd.OutOrStdout().Write(timeline.SVG(t))
		return err
	}
	if err := os.WriteFile(f.svg, timeline.SVG(t), 0o644); err != nil {
		return fmt.Errorf("cannot write the drawing: %w", err)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "drawn to", f.svg)
	return nil
}

func indented(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// traceClient asks the node's own endpoints, with signed requests.
type traceClient struct {
	endpoint, region string
	root             keyring.Credentials
}

// statusError is a refusal by the node.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.message, e.status) }

// timeline gets one invocation, by its request id or a beginning of it.
func (c *traceClient) timeline(ctx context.Context, id string) (*timeline.Timeline, error) {
	var t timeline.Timeline
	err := c.get(ctx, trace.Path+"/"+url.PathEscape(id), &t)
	if refused, ok := errors.AsType[*statusError](err); !ok || refused.status != http.StatusNotFound {
		return &t, err
	}
	if len(id) >= wholeID {
		return nil, fmt.Errorf("firn remembers no invocation with the request id %s: %w; firn trace lists those that it does", id, err)
	}
	var listing trace.Listing
	if err := c.get(ctx, trace.Path+"?limit=1000", &listing); err != nil {
		return nil, err
	}
	found := ""
	for _, i := range listing.Invocations {
		switch {
		case !strings.HasPrefix(i.RequestID, id) || i.RequestID == found:
		case found != "":
			return nil, fmt.Errorf("several request ids begin with %s: %s and %s at least", id, found, i.RequestID)
		default:
			found = i.RequestID
		}
	}
	if found == "" {
		return nil, fmt.Errorf("no invocation that firn remembers has a request id that begins with %s; firn trace lists them", id)
	}
	return &t, c.get(ctx, trace.Path+"/"+url.PathEscape(found), &t)
}

// get asks for a path below the endpoint and decodes the answer.
func (c *traceClient) get(ctx context.Context, path string, into any) error {
	return c.ask(ctx, http.MethodGet, path, into)
}

// ask sends a request without a body and decodes the answer.
func (c *traceClient) ask(ctx context.Context, method, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, nil)
	if err != nil {
		return err
	}
	empty := sha256.Sum256(nil)
	creds := aws.Credentials{AccessKeyID: c.root.AccessKeyID, SecretAccessKey: c.root.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(empty[:]), "lambda", c.region, time.Now()); err != nil {
		return fmt.Errorf("sign the request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if network := net.Error(nil); errors.As(err, &network) {
		return fmt.Errorf("firn does not answer at %s; is it still running? (%w)", c.endpoint, err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, traceAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.endpoint, err)
	}
	if resp.StatusCode != http.StatusOK {
		return c.refusal(resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer of %s is not firn's: %w", c.endpoint, err)
	}
	return nil
}

// refusal says what a status means here.
func (c *traceClient) refusal(status int, body []byte) error {
	var problem struct {
		Message string `json:"message"` // or Message, of the API's own errors
	}
	_ = json.Unmarshal(body, &problem) // without one the status says enough
	message := onOneLine(problem.Message)
	if message == "" {
		message = http.StatusText(status)
	}
	if status == http.StatusForbidden {
		message += "; --region and --account must be those given to firn up, and --data its directory"
	}
	return &statusError{status, message}
}
