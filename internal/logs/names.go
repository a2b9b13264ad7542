package logs

import (
	"encoding/base64"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// prefix is what ARNs of this account's log groups begin with.
func (s *Service) prefix() string {
	return "arn:aws:logs:" + s.cfg.Region + ":" + s.cfg.Account + ":log-group:"
}

func (s *Service) groupARN(name string) string { return s.prefix() + name }

func (s *Service) streamARN(group, stream string) string {
	return s.prefix() + group + ":log-stream:" + stream
}

// groupOf returns the group that a request names, by name or by identifier,
// which is a name or an ARN, and fails unless it exists.
func (s *Service) groupOf(name, identifier *string) (string, error) {
	switch {
	case name != nil && identifier != nil:
		return "", &types.ValidationException{Message: new("LogGroup name and LogGroup ARN are mutually exclusive parameters.")}
	case name == nil && identifier == nil:
		return "", &types.ValidationException{Message: new("Either logGroupName or logGroupIdentifier must be specified.")}
	case name == nil:
		name = identifier
	}
	return s.existing(*name)
}

// existing returns the name of a group given by name or ARN, if it exists. A
// group of another account or region does not exist here.
func (s *Service) existing(identifier string) (string, error) {
	name := identifier
	if strings.HasPrefix(identifier, "arn:") {
		rest, ok := strings.CutPrefix(identifier, s.prefix())
		if !ok {
			return "", noGroup()
		}
		name = strings.TrimSuffix(rest, ":*")
	}
	if _, ok := s.cfg.Store.Group(name); !ok {
		return "", noGroup()
	}
	return name, nil
}

// tokenMark is what every nextToken holds before the name, so that what a
// client made up is hardly ever taken for one.
const tokenMark = "after:"

// pageToken makes a nextToken of the last name of a page.
func pageToken(last string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(tokenMark + last)))
}

// afterToken returns the name that a nextToken stands for; nil is none.
func afterToken(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil {
		return "", badToken()
	}
	name, ok := strings.CutPrefix(string(text), tokenMark)
	if !ok || name == "" {
		return "", badToken()
	}
	return name, nil
}

// defaultPage is how many items lists have when the request does not say.
const defaultPage = 50

func pageSize(limit *int32) int {
	if limit == nil {
		return defaultPage
	}
	return int(*limit)
}
