// Command hello is a Lambda function for provided.al2023, written with AWS's
// own runtime client: it greets whom the event names. Zipped as `bootstrap` it
// runs unchanged on AWS and on firn.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
}

type answer struct {
	Greeting string `json:"greeting"`
	Request  string `json:"request"`
}

func greet(ctx context.Context, e event) (answer, error) {
	lc, _ := lambdacontext.FromContext(ctx)
	fmt.Printf("greeting %q for %s\n", e.Name, os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
	return answer{Greeting: "Hello, " + e.Name + "!", Request: lc.AwsRequestID}, nil
}

func main() { lambda.Start(greet) }
