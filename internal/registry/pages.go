package registry

import "encoding/base64"

// pageSize is how much a page holds ("DescribeRepositories": 100 by default,
// 1,000 at most, which the model's constraints keep).
func pageSize(n *int32) int {
	if n == nil {
		return 100
	}
	return int(*n)
}

// pageToken says after which key the next page begins.
func pageToken(last string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

// pageAfter reads a token.
func pageAfter(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	last, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	if err != nil || len(last) == 0 || len(last) > 1024 {
		return "", invalid("Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")
	}
	return string(last), nil
}
