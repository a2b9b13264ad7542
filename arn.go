package firn

import (
	"fmt"
	"regexp"
	"strings"
)

// Latest is the version that is not published: code and configuration as
// they are edited.
const Latest = "$LATEST"

// FunctionRef is what a caller wrote to name a function: the optional parts
// are empty when they were left out.
type FunctionRef struct {
	Region    string
	Account   string
	Name      string
	Qualifier string // version, alias or "$LATEST"
}

// functionName is the pattern of the Lambda API model for FunctionName
// (NamespacedFunctionName), with its parts captured.
var functionName = regexp.MustCompile(`^(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:((?:eusc-)?[a-z]{2}(?:(?:-gov)|(?:-iso(?:[a-z]?)))?-[a-z]+-\d):)?(?:(\d{12}):)?(?:function:)?([a-zA-Z0-9-_.]+)(?::(\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?$`)

// functionNamePattern is the same as AWS shows it.
const functionNamePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`

// ParseFunction reads a function name, a partial ARN or a full ARN, each with
// an optional qualifier, in all forms that the Lambda API accepts. A name may
// be longer than MaxFunctionName, and there is no such function then.
func ParseFunction(s string) (FunctionRef, error) {
	if plainName(s) { // nearly every request has one, and expressions are slow
		return FunctionRef{Name: s}, nil
	}
	m := functionName.FindStringSubmatch(s)
	if m == nil || strings.HasPrefix(s, "arn:") && (m[1] == "" || m[2] == "") {
		return FunctionRef{}, Faultf(Validation, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", s, functionNamePattern)
	}
	return FunctionRef{Region: m[1], Account: m[2], Name: m[3], Qualifier: m[4]}, nil
}

// plainName reports whether s is a function's name and nothing else.
func plainName(s string) bool {
	if s == "" || len(s) > MaxFunctionName {
		return false
	}
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// WithQualifier adds the Qualifier parameter of a request to a reference; a
// qualifier that is already in the name must be the same one.
func (r FunctionRef) WithQualifier(q string) (FunctionRef, error) {
	if q == "" {
		return r, nil
	}
	if r.Qualifier != "" && r.Qualifier != q {
		return r, Faultf(InvalidParameterValue, "The derived qualifier from the function name does not match the specified qualifier.")
	}
	r.Qualifier = q
	return r, nil
}

// FunctionARN is the unqualified ARN of a function.
func FunctionARN(region, account, name string) string {
	return "arn:aws:lambda:" + region + ":" + account + ":function:" + name
}

// LayerARN is the ARN of a layer without its version.
func LayerARN(region, account, name string) string {
	return "arn:aws:lambda:" + region + ":" + account + ":layer:" + name
}

// LayerVersionARN is the ARN of one version of a layer.
func LayerVersionARN(region, account, name string, version int64) string {
	return fmt.Sprintf("%s:%d", LayerARN(region, account, name), version)
}
