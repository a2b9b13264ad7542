package registry

import (
	"encoding/base64"
	"strings"
)

// pageSize is how much a page holds ("DescribeRepositories": 100 by default,
// 1,000 at most, which the model's constraints keep).
func pageSize(n *int32) int {
	if n == nil {
		return 100
	}
	return int(*n)
}

// tokenMark is what every token holds before the key, so that what a client
// made up is hardly ever taken for one.
const tokenMark = "after:"

// pageToken says after which key the next page begins.
func pageToken(last string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(tokenMark + last)))
}

// pageAfter reads a token.
func pageAfter(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	last, ok := strings.CutPrefix(string(text), tokenMark)
	if err != nil || !ok || last == "" || len(last) > 1024 {
		return "", invalid("Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
	}
	return last, nil
}
