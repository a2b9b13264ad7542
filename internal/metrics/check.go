package metrics

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn"
)

// maxFaults bounds how many faults of a request are told.
const maxFaults = 50

// faults collects what is wrong with a request. CloudWatch tells it with a
// line for each: what is missing, or else what is invalid, or else what does
// not go together. Its metrics have never told of constraints as its alarms
// and the other services do.
type faults struct {
	missing, invalid, exclusive []string
}

func note(list []string, format string, args ...any) []string {
	if len(list) == maxFaults {
		return list
	}
	return append(list, fmt.Sprintf(format, args...))
}

// required notes that a parameter is missing; path is its name, as
// MetricData.member.1.MetricName.
func (f *faults) required(path string) {
	f.missing = note(f.missing, "The parameter %s is required.", path)
}

// present reports whether a text is there, and notes when it is not: an empty
// one is missing, too.
func (f *faults) present(path string, text *string) bool {
	if aws.ToString(text) == "" {
		f.required(path)
		return false
	}
	return true
}

// text notes what is wrong with a name or a value of at most so many
// characters, of those that can be printed in ASCII.
func (f *faults) text(path, text string, most int) {
	if !printable(text) {
		f.bad("The value for parameter %s contains non-ASCII characters.", path)
	}
	if len(text) > most {
		f.bad("The parameter %s must be shorter than %d characters.", path, most+1)
	}
}

func (f *faults) bad(format string, args ...any) {
	f.invalid = note(f.invalid, format, args...)
}

// refused notes a value that is none of its kind.
func (f *faults) refused(path, value string) {
	f.bad("The value %s for parameter %s is invalid.", value, path)
}

// number notes a number beyond what CloudWatch takes.
func (f *faults) number(path string, n float64) {
	shown := strconv.FormatFloat(n, 'g', -1, 64)
	if math.IsInf(n, 0) {
		shown = strings.TrimPrefix(shown, "+") + "inity" // as Java has it
	}
	f.refused(path, shown)
}

// size notes a list that is too long.
func (f *faults) size(path string, n, most int) {
	if n > most {
		f.bad("The collection %s must not have a size greater than %d.", path, most)
	}
}

func (f *faults) mixed(format string, args ...any) {
	f.exclusive = note(f.exclusive, format, args...)
}

func (f *faults) both(a, b string) {
	f.mixed("The parameters %s and %s are mutually exclusive and you have specified both.", a, b)
}

// What a range of time that ends before it starts is told by the operation.
const (
	turnedStatistics = "The parameter StartTime must be less than the parameter EndTime."
	turnedData       = "The parameter EndTime must be greater than StartTime."
)

// ordered checks a range of time.
func (f *faults) ordered(in timeRange, turned string) {
	switch {
	case in.start.Equal(in.end):
		f.bad("The parameter StartTime must not equal parameter EndTime.")
	case in.start.After(in.end):
		f.bad("%s", turned)
	}
}

// err is the answer of the older operations, nil when nothing is wrong.
func (f *faults) err() error {
	switch {
	case len(f.missing) > 0:
		return &types.MissingRequiredParameterException{Message: aws.String(strings.Join(f.missing, "\n"))}
	case len(f.invalid) > 0:
		return &types.InvalidParameterValueException{Message: aws.String(strings.Join(f.invalid, "\n"))}
	case len(f.exclusive) > 0:
		return &types.InvalidParameterCombinationException{Message: aws.String(strings.Join(f.exclusive, "\n"))}
	}
	return nil
}

// validation is the answer of GetMetricData, which knows one exception for all
// and ends every line.
func (f *faults) validation() error {
	list := f.missing
	if len(list) == 0 {
		list = f.invalid
	}
	if len(list) == 0 {
		list = f.exclusive
	}
	if len(list) == 0 {
		return nil
	}
	return &firn.Fault{Kind: firn.Validation, Message: strings.Join(list, "\n") + "\n"}
}
