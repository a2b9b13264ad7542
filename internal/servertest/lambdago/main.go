// Command lambdago is a test function written with AWS's own runtime client,
// with SIGTERM enabled: the client then registers an internal extension, so
// that a shutdown begins with SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type order struct {
	Do string `json:"do"`
	N  int    `json:"n"`
}

func handle(ctx context.Context, o order) (any, error) {
	switch o.Do {
	case "panic":
		panic("the handler panics")
	case "error":
		return nil, errors.New("the handler fails")
	case "exit":
		os.Exit(o.N)
	case "hang":
		<-make(chan struct{})
	case "oom":
		for held := make(map[int][]byte); ; {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			held[len(held)] = block
		}
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return map[string]any{
		"request": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "name": lambdacontext.FunctionName,
		"memory": lambdacontext.MemoryLimitInMB, "left": time.Until(deadline).Round(time.Second).String(),
	}, nil
}

func main() {
	lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() { fmt.Println("lambdago got SIGTERM") }))
}
