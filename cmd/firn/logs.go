package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/firn-run/firn/internal/server"
)

// functionGroups is what the log groups of functions begin with.
const functionGroups = "/aws/lambda/"

const (
	followEvery = 500 * time.Millisecond
	// followBack is how far before the latest event a follower looks again:
	// events of other environments may come in later than they happened.
	followBack = 15 * time.Second
)

// logsFlags are the flags of `firn logs`.
type logsFlags struct {
	dataDir, region, account string
	follow                   bool
	since                    string
	pattern                  string
	output                   string
}

func newLogs() *cobra.Command {
	f := &logsFlags{}
	cmd := &cobra.Command{
		Use:   "logs [function]",
		Short: "Show what functions log",
		Long: "Show the log of a function, or of all functions, of the running firn.\n" +
			"Instead of a function a log group can be given, with the slash that its name begins with.",
		Example: "  firn logs -f\n  firn logs hello --since 1h --filter ERROR\n  firn logs hello --filter '{ $.level = \"error\" }' --output json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var function string
			if len(args) == 1 {
				function = args[0]
			}
			return f.run(cmd, function)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what is logged from now on, until Ctrl-C")
	flags.StringVar(&f.since, "since", "10m", "how far back to begin: 30s, 10m, 2h, 3d, or a time like 2026-01-02T15:04:05Z")
	flags.StringVar(&f.pattern, "filter", "", "show what matches this filter pattern of CloudWatch Logs")
	flags.StringVarP(&f.output, "output", "o", "text", "text, or json: one object a line")
	flags.StringVar(&f.dataDir, "data", defaultDataDir(), "data directory of the running firn")
	flags.StringVar(&f.region, "region", server.DefaultRegion, "region given to firn up")
	flags.StringVar(&f.account, "account", server.DefaultAccount, "account given to firn up")
	return cmd
}

func (f *logsFlags) run(cmd *cobra.Command, function string) error {
	since, err := parseSince(f.since, time.Now())
	if err != nil {
		return err
	}
	if f.output != "text" && f.output != "json" {
		return fmt.Errorf("unknown output %q: choose text or json", f.output)
	}
	endpoint, err := server.ReadEndpoint(f.dataDir)
	if err != nil {
		return err
	}
	root, err := server.RootCredentials(f.dataDir, f.account)
	if err != nil {
		return err
	}
	r := &logReader{
		api: cloudwatchlogs.New(cloudwatchlogs.Options{
			BaseEndpoint: &endpoint, Region: f.region,
			Credentials: credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey, ""),
		}),
		note: cmd.ErrOrStderr(), pattern: f.pattern, since: since.UnixMilli(),
		seen: map[string]int64{}, latest: map[string]int64{},
	}
	if f.output == "json" {
		r.print = printJSON(cmd.OutOrStdout())
	} else {
		r.print = (&logText{out: cmd.OutOrStdout(), colour: isTerminal(cmd.OutOrStdout()), named: function == ""}).print
	}
	err = r.run(cmd.Context(), function, f.follow)
	if cmd.Context().Err() != nil {
		return nil // Ctrl-C is how following ends
	}
	return explain(err, endpoint)
}

// parseSince reads a period before now, or a time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 {
			return now.Add(-time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	if period, err := time.ParseDuration(text); err == nil && period >= 0 {
		return now.Add(-period), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("--since %q is neither a period such as 30s, 10m, 2h or 3d nor a time such as 2026-01-02T15:04:05Z", text)
}

// explain turns an error of the API into what the user is to know.
func explain(err error, endpoint string) error {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api):
		return fmt.Errorf("%s (%s)", api.ErrorMessage(), api.ErrorCode())
	case errors.As(err, &network):
		return fmt.Errorf("firn does not answer at %s; is it still running? (%w)", endpoint, network)
	default:
		return err
	}
}

// logEvent is an event and where it is from.
type logEvent struct {
	types.FilteredLogEvent
	group string
}

// logReader reads log groups through the API.
type logReader struct {
	api     *cloudwatchlogs.Client
	pattern string
	since   int64 // milliseconds since 1970
	print   func(logEvent) error
	note    io.Writer // what is not log

	latest map[string]int64 // by group: the latest event printed
	seen   map[string]int64 // timestamps of events printed, by group and id
}

func (r *logReader) run(ctx context.Context, function string, follow bool) error {
	if function != "" {
		if err := r.check(ctx, function, follow); err != nil {
			return err
		}
	}
	for {
		groups, err := r.groups(ctx, function)
		if err == nil {
			err = r.read(ctx, groups)
		}
		if err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// check says what there is when a function has no log; a follower then waits.
func (r *logReader) check(ctx context.Context, function string, follow bool) error {
	groups, err := r.groups(ctx, function)
	if err != nil || len(groups) > 0 {
		return err
	}
	all, err := r.groups(ctx, "")
	if err != nil {
		return err
	}
	for i, group := range all {
		all[i] = strings.TrimPrefix(group, functionGroups)
	}
	missing := function + " has no log; a function has one from its first invocation on"
	if len(all) == 0 {
		missing += ", and none has been invoked yet"
	} else {
		missing += ". There are logs of: " + strings.Join(all, ", ")
	}
	if !follow {
		return errors.New(missing)
	}
	_, err = fmt.Fprintf(r.note, "%s. Waiting for it.\n", missing)
	return err
}

// groupOf is the log group that an argument names.
func groupOf(function string) string {
	if strings.HasPrefix(function, "/") {
		return function
	}
	return functionGroups + function
}

// groups returns the group of a function, if it exists, or the groups of all.
func (r *logReader) groups(ctx context.Context, function string) ([]string, error) {
	prefix := functionGroups
	if function != "" {
		prefix = groupOf(function)
	}
	var names []string
	pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(r.api, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, g := range page.LogGroups {
			if function == "" || *g.LogGroupName == prefix {
				names = append(names, *g.LogGroupName)
			}
		}
		if function != "" {
			break // the first with the prefix is the one, or none is
		}
	}
	return names, nil
}

// read prints the events of groups that were not printed before, in the order
// of their time.
func (r *logReader) read(ctx context.Context, names []string) error {
	var sources []*logSource
	for _, name := range names {
		from := max(r.since, r.latest[name]-followBack.Milliseconds())
		sources = append(sources, &logSource{group: name, in: &cloudwatchlogs.FilterLogEventsInput{
			LogGroupName: &name, StartTime: &from, FilterPattern: &r.pattern,
		}})
	}
	for {
		var next *logSource
		for _, source := range sources {
			if err := source.fill(ctx, r.api); err != nil {
				return err
			}
			if len(source.page) > 0 && (next == nil || *source.page[0].Timestamp < *next.page[0].Timestamp) {
				next = source
			}
		}
		if next == nil {
			r.forget()
			return nil
		}
		event := logEvent{FilteredLogEvent: next.page[0], group: next.group}
		next.page = next.page[1:]
		id := next.group + "\x00" + *event.EventId
		if _, printed := r.seen[id]; printed {
			continue
		}
		r.seen[id] = *event.Timestamp
		r.latest[next.group] = max(r.latest[next.group], *event.Timestamp)
		if err := r.print(event); err != nil {
			return err
		}
	}
}

// forget drops from memory what read will not see again.
func (r *logReader) forget() {
	for id, at := range r.seen {
		group, _, _ := strings.Cut(id, "\x00")
		if at < r.latest[group]-followBack.Milliseconds() {
			delete(r.seen, id)
		}
	}
}

// logSource is one group being read, page by page.
type logSource struct {
	group string
	in    *cloudwatchlogs.FilterLogEventsInput
	page  []types.FilteredLogEvent
	done  bool
}

// fill makes sure that the page has an event, unless the source is at its end.
// A group that is gone has ended.
func (s *logSource) fill(ctx context.Context, api *cloudwatchlogs.Client) error {
	for len(s.page) == 0 && !s.done {
		out, err := api.FilterLogEvents(ctx, s.in)
		if _, gone := errors.AsType[*types.ResourceNotFoundException](err); gone {
			s.done = true
			return nil
		}
		if err != nil {
			return err
		}
		s.page, s.in.NextToken, s.done = out.Events, out.NextToken, out.NextToken == nil
	}
	return nil
}

func printJSON(out io.Writer) func(logEvent) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return func(e logEvent) error {
		return encoder.Encode(struct {
			Time     time.Time `json:"timestamp"`
			Ingested time.Time `json:"ingestionTime"`
			Group    string    `json:"logGroup"`
			Stream   string    `json:"logStream"`
			ID       string    `json:"eventId"`
			Message  string    `json:"message"`
		}{time.UnixMilli(*e.Timestamp).UTC(), time.UnixMilli(*e.IngestionTime).UTC(), e.group, *e.LogStreamName, *e.EventId, *e.Message})
	}
}

// isTerminal reports whether colours may be written to out.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
}

// logText prints events for people.
type logText struct {
	out    io.Writer
	colour bool
	named  bool // say which function
}

// Escape sequences of a terminal.
const (
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	reset = "\x1b[0m"
)

func (t *logText) print(e logEvent) error {
	at := time.UnixMilli(*e.Timestamp).Format("2006-01-02 15:04:05.000")
	name := strings.TrimPrefix(e.group, functionGroups)
	message := strings.TrimRight(*e.Message, "\r\n")
	if t.colour {
		message = shade(message) + harmless(message) + reset
		at = dim + at + reset
		name = fmt.Sprintf("\x1b[%dm%s%s", 31+hash(name)%6, name, reset)
	}
	if t.named {
		at += " " + name
	}
	_, err := fmt.Fprintf(t.out, "%s %s\n", at, message)
	return err
}

// shade is the colour of a whole message: the platform's own lines step back,
// failures stand out.
func shade(message string) string {
	for _, start := range []string{"START RequestId:", "END RequestId:", "REPORT RequestId:", "INIT_START", "INIT_REPORT", "EXTENSION\t", "TELEMETRY\t"} {
		if strings.HasPrefix(message, start) {
			if strings.Contains(message, "\tStatus: ") {
				return red
			}
			return dim
		}
	}
	return ""
}

// hash spreads names over colours.
func hash(name string) int {
	sum := 0
	for _, c := range []byte(name) {
		sum = sum*31 + int(c)
	}
	return sum & 0xffff
}

// harmless is a message for a terminal: control characters would let a
// function rewrite the screen. Tabs, line feeds and colours stay.
func harmless(message string) string {
	if !strings.ContainsFunc(message, control) {
		return message
	}
	var b strings.Builder
	for i, r := range message {
		switch {
		case r == '\x1b' && colourSequence(message[i:]), !control(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

func control(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 }

// colourSequence reports whether text begins with ESC [ digits m.
func colourSequence(text string) bool {
	rest, ok := strings.CutPrefix(text, "\x1b[")
	if !ok {
		return false
	}
	end := strings.TrimLeft(rest, "0123456789;")
	return strings.HasPrefix(end, "m") && len(rest)-len(end) <= 20
}
