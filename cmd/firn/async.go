package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firn-run/firn/internal/async"
	"github.com/firn-run/firn/internal/server"
)

// asyncFlags are the flags of `firn async` and what is below it.
type asyncFlags struct {
	dataDir, region, account string
	output, function         string
	limit                    int
	all                      bool
}

func newAsync() *cobra.Command {
	f := &asyncFlags{}
	cmd := &cobra.Command{
		Use:     "async",
		Short:   "Show asynchronous invocations that wait, and why",
		Long:    "Show the asynchronous invocations that wait: since when, why, and when they are attempted\nnext. Forget them, or have them attempted at once.",
		Example: "  firn async\n  firn async list --function hello\n  firn async show 8ec66a5e\n  firn async redrive --function hello\n  firn async purge --function hello",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.list(cmd) },
	}
	common := cmd.PersistentFlags()
	common.StringVarP(&f.output, "output", "o", "text", "text or json")
	common.StringVar(&f.dataDir, "data", defaultDataDir(), "data directory of the running firn")
	common.StringVar(&f.region, "region", server.DefaultRegion, "region given to firn up")
	common.StringVar(&f.account, "account", server.DefaultAccount, "account given to firn up")

	list := &cobra.Command{
		Use: "list", Short: "List what waits (as without a command)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.list(cmd) },
	}
	for _, c := range []*cobra.Command{cmd, list} {
		c.Flags().StringVar(&f.function, "function", "", "only events of this function (name or ARN, with or without a qualifier)")
		c.Flags().IntVar(&f.limit, "limit", 25, "how many events to list")
	}
	show := &cobra.Command{
		Use: "show REQUEST-ID", Short: "Show one event with its payload", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.show(cmd, args[0]) },
	}
	purge := &cobra.Command{
		Use: "purge --function NAME", Short: "Forget what waits of a function, without telling its destinations", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.purge(cmd) },
	}
	purge.Flags().StringVar(&f.function, "function", "", "the function (name or ARN, with or without a qualifier)")
	redrive := &cobra.Command{
		Use: "redrive [REQUEST-ID]", Short: "Attempt now what waits for its time", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.redrive(cmd, args) },
	}
	redrive.Flags().StringVar(&f.function, "function", "", "all events of this function (name or ARN, with or without a qualifier)")
	redrive.Flags().BoolVar(&f.all, "all", false, "all events")
	cmd.AddCommand(list, show, purge, redrive)
	return cmd
}

// node is the running firn.
func (f *asyncFlags) node() (*traceClient, error) {
	if f.output != "text" && f.output != "json" {
		return nil, fmt.Errorf("unknown output %q: choose text or json", f.output)
	}
	endpoint, err := server.ReadEndpoint(f.dataDir)
	if err != nil {
		return nil, err
	}
	root, err := server.RootCredentials(f.dataDir, f.account)
	if err != nil {
		return nil, err
	}
	return &traceClient{endpoint: endpoint, region: f.region, root: root}, nil
}

func (f *asyncFlags) list(cmd *cobra.Command) error {
	node, err := f.node()
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(f.limit)}}
	if f.function != "" {
		q.Set("function", f.function)
	}
	var listing async.Listing
	if err := node.get(cmd.Context(), async.Path+"?"+q.Encode(), &listing); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		return indented(out, listing)
	}
	if listing.Total == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "no asynchronous invocation waits")
		return nil
	}
	if err := printBacklogs(out, listing.Functions); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := printWaiting(out, listing.Events); err != nil {
		return err
	}
	if more := listing.Total - int64(len(listing.Events)); more > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "and %d more; --limit shows them\n", more)
	}
	return nil
}

func printBacklogs(out io.Writer, list []async.Backlog) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FUNCTION\tEVENTS\tRUNNING\tHELD UNTIL")
	for _, b := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", onOneLine(shortFunction(b.Function)), b.Events, b.Running, clockTime(b.Held))
	}
	return w.Flush()
}

func printWaiting(out io.Writer, list []async.Waiting) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SINCE\tFUNCTION\tREQUEST ID\tNEXT\tWHY")
	for _, e := range list {
		next := clockTime(e.Next)
		if e.Running {
			next = "-"
		}
		cells := []string{clockTime(e.Accepted), shortFunction(e.Function), e.RequestID, next, e.Why}
		for n := range cells {
			cells[n] = onOneLine(cells[n])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// clockTime is a cell with a time of today or of another day; none, a dash.
func clockTime(t time.Time) string {
	switch local := t.Local(); {
	case t.IsZero():
		return "-"
	case time.Since(t).Abs() < 12*time.Hour:
		return local.Format("15:04:05")
	default:
		return local.Format("2006-01-02 15:04:05")
	}
}

// shortFunction is a function's name, with its qualifier when it has one.
func shortFunction(arn string) string {
	_, name, found := strings.Cut(arn, ":function:")
	if !found {
		return arn
	}
	return strings.TrimSuffix(name, ":$LATEST")
}

// show prints one event.
func (f *asyncFlags) show(cmd *cobra.Command, id string) error {
	if id == "" || strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(requestIDLetters, r) }) {
		return fmt.Errorf("%q is not a request id", id)
	}
	node, err := f.node()
	if err != nil {
		return err
	}
	var d async.Detail
	if err := node.get(cmd.Context(), async.Path+"/"+url.PathEscape(id), &d); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		return indented(out, d)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"request id", d.RequestID}, {"function", d.Function}, {"accepted", d.Accepted.Local().Format(time.RFC3339)},
		{"next attempt", d.Next.Local().Format(time.RFC3339)}, {"given up at", d.Expires.Local().Format(time.RFC3339)},
		{"attempts", fmt.Sprintf("%d made, %d retries allowed", d.Attempts, d.Retries)}, {"why", d.Why},
		{"trace", d.TraceHeader}, {"client context", string(d.ClientContext)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], onOneLine(line[1]))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", onOneLine(string(d.Payload)))
	return nil
}

func (f *asyncFlags) purge(cmd *cobra.Command) error {
	if f.function == "" {
		return errors.New("say which function's events are to be forgotten: --function NAME")
	}
	return f.change(cmd, "/purge", url.Values{"function": {f.function}}, "forgotten")
}

func (f *asyncFlags) redrive(cmd *cobra.Command, args []string) error {
	q := url.Values{}
	switch {
	case len(args) == 1 && f.function == "" && !f.all:
		q.Set("requestId", args[0])
	case len(args) == 0 && f.function != "" && !f.all:
		q.Set("function", f.function)
	case len(args) == 0 && f.function == "" && f.all:
		q.Set("all", "true")
	default:
		return errors.New("give one of a request id, --function NAME and --all")
	}
	return f.change(cmd, "/redrive", q, "attempted now")
}

// change has the node change what waits, and says how much was.
func (f *asyncFlags) change(cmd *cobra.Command, path string, q url.Values, done string) error {
	node, err := f.node()
	if err != nil {
		return err
	}
	var changed async.Changed
	if err := node.ask(cmd.Context(), http.MethodPost, async.Path+path+"?"+q.Encode(), &changed); err != nil {
		return err
	}
	if f.output == "json" {
		return indented(cmd.OutOrStdout(), changed)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d events are %s\n", changed.Events, done)
	return err
}

// endpointServices are the services that destinations are in, with the names
// that the SDKs' variables AWS_ENDPOINT_URL_... have for them.
func endpointServices() map[string]string {
	return map[string]string{"sqs": "SQS", "sns": "SNS", "events": "EVENTBRIDGE", "s3": "S3"}
}

// defaultEndpoints reads the endpoints from the environment, as SDKs do.
func defaultEndpoints(getenv func(string) string) map[string]string {
	endpoints := map[string]string{}
	for service, name := range endpointServices() {
		if at := getenv("AWS_ENDPOINT_URL_" + name); at != "" {
			endpoints[service] = at
		}
	}
	return endpoints
}

// checkEndpoints refuses what could not be reached.
func checkEndpoints(endpoints map[string]string) error {
	for service, at := range endpoints {
		if endpointServices()[service] == "" {
			known := make([]string, 0, len(endpointServices()))
			for name := range endpointServices() {
				known = append(known, name)
			}
			slices.Sort(known)
			return fmt.Errorf("--endpoint: unknown service %q: choose among %s", service, strings.Join(known, ", "))
		}
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("--endpoint %s=%s: this is not the URL of a service", service, at)
		}
	}
	return nil
}
