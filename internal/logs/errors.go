package logs

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/logpattern"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/state"
)

func noGroup() error {
	return &types.ResourceNotFoundException{Message: new("The specified log group does not exist.")}
}

func noStream() error {
	return &types.ResourceNotFoundException{Message: new("The specified log stream does not exist.")}
}

func invalid(message string) error {
	return &types.InvalidParameterException{Message: &message}
}

func badToken() error { return invalid("The specified nextToken is invalid.") }

func limitExceeded() error {
	return &types.LimitExceededException{Message: new("Resource limit exceeded.")}
}

// unserved refuses an option that AWS has and firn does not.
func unserved(what string) error {
	return firn.Faultf(firn.NotImplemented, "%s is not served by firn yet.", what)
}

// storeError turns an error of the stores into the API's.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, logstore.ErrNoGroup):
		return noGroup()
	case errors.Is(err, logstore.ErrNoStream):
		return noStream()
	case errors.Is(err, logstore.ErrGroupExists):
		return &types.ResourceAlreadyExistsException{Message: new("The specified log group already exists")}
	case errors.Is(err, logstore.ErrStreamExists):
		return &types.ResourceAlreadyExistsException{Message: new("The specified log stream already exists")}
	case errors.Is(err, logstore.ErrCursor):
		return badToken()
	case errors.Is(err, logstore.ErrTooMany):
		return limitExceeded()
	case errors.Is(err, logstore.ErrFull), errors.Is(err, state.ErrFull):
		return &types.ServiceUnavailableException{Message: new("The disk of this node has no room for the request.")}
	case errors.Is(err, logstore.ErrClosed), errors.Is(err, state.ErrClosed):
		return &types.ServiceUnavailableException{Message: new("The service is shutting down.")}
	default:
		return err
	}
}

// parsePattern compiles a filter pattern of a request; nil is the empty one.
func parsePattern(text *string) (*logpattern.Pattern, error) {
	p, err := logpattern.Parse(deref(text))
	if problem, ok := errors.AsType[*logpattern.Error](err); ok {
		return nil, invalid(problem.Message)
	}
	return p, err
}

// deref returns what p points to, or the zero value.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
