package awswire

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwschemas "github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"
	"github.com/firn-run/firn/internal/awswire/model"
	"github.com/google/go-cmp/cmp"
)

// serviceMux is a Mux of a service with authentication on, and its log.
func serviceMux(service *Service) (*Mux, *syncBuffer) {
	log := &syncBuffer{}
	return NewService(Config{
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Auth:   NewAuthenticator(AuthConfig{Credentials: oneKey{}, Region: testRegion, Service: "lambda"}),
	}, service), log
}

// serve starts a server for h and returns its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config = NewServer(h, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// noHostPrefix keeps clients from putting "streaming-" before the address.
func noHostPrefix(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("noHostPrefix", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
	}), middleware.Before)
}

func logsClient(t testing.TB, h http.Handler) *cloudwatchlogs.Client {
	return cloudwatchlogs.New(cloudwatchlogs.Options{
		BaseEndpoint: aws.String(serve(t, h)),
		Region:       testRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   steadyClient(),
		APIOptions:   []func(*middleware.Stack) error{noHostPrefix},
	})
}

// cloudWatchClients are the SDK's client in each protocol of CloudWatch.
func cloudWatchClients(t testing.TB, h http.Handler) map[string]*cloudwatch.Client {
	clients := map[string]*cloudwatch.Client{}
	url := serve(t, h)
	for name, protocol := range map[string]smithyhttp.ClientProtocol{
		"cbor":  nil, // the client's own choice
		"json":  awsjson.New10(cwschemas.GraniteServiceVersion20100801),
		"query": awsquery.New(cwschemas.GraniteServiceVersion20100801),
	} {
		clients[name] = cloudwatch.New(cloudwatch.Options{
			BaseEndpoint: aws.String(url),
			Region:       testRegion,
			Credentials:  credentials.NewStaticCredentialsProvider(testKey, testSecret, "session"),
			Retryer:      aws.NopRetryer{},
		}, func(o *cloudwatch.Options) {
			if protocol != nil {
				o.Protocol = protocol
			}
		})
	}
	return clients
}

// roundTrip sends a full input of every operation through a client and a full
// output back.
func roundTrip(t *testing.T, mux *Mux, client any, protocol model.Protocol, skip ...string) {
	t.Helper()
	mux.codec.rules, mux.codec.checks = nil, map[string]*check{} // values are random
	var gotIn, sentOut any
	f := filler{rand.New(rand.NewPCG(3, 4)), protocol == model.Query}
	called := reflect.ValueOf(client)
	count := 0
	for name, types := range operationsOf(client) {
		if slices.Contains(skip, name) {
			continue
		}
		count++
		mux.ops[name].serve = nil
		mux.mountReflected(name, types, func(ctx context.Context, in, out any) error {
			gotIn, sentOut = in, out
			if got := RequestOf(ctx).protocol; got != protocol {
				return fmt.Errorf("the request came in protocol %d", got)
			}
			f.fill(mux.codec.rootPlan(types[1]), reflect.ValueOf(out).Elem(), inBody, 0)
			return nil
		})
		for range 3 {
			in := reflect.New(types[0])
			f.fill(mux.codec.rootPlan(types[0]), in.Elem(), inBody, 0)
			gotIn = nil
			results := called.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
			if err := results[1].Interface(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(in.Interface(), gotIn, sameStructures()); diff != "" {
				t.Errorf("%s: input (-sent +received):\n%s", name, diff)
			}
			if diff := cmp.Diff(sentOut, results[0].Interface(), sameStructures()); diff != "" {
				t.Errorf("%s: output (-sent +received):\n%s", name, diff)
			}
		}
	}
	if count < 40 {
		t.Errorf("only %d operations were tried", count)
	}
}

func TestRoundTripOfCloudWatchLogs(t *testing.T) {
	mux, _ := serviceMux(CloudWatchLogs())
	roundTrip(t, mux, logsClient(t, mux), model.AWSJSON, "StartLiveTail", "GetLogObject")
}

func TestRoundTripOfECR(t *testing.T) {
	mux, _ := serviceMux(ECR())
	roundTrip(t, mux, ecr.New(ecr.Options{
		BaseEndpoint: aws.String(serve(t, FrontDoor(openMux(), mux))),
		Region:       testRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   steadyClient(),
	}), model.AWSJSON)
}

func TestRoundTripOfCloudWatch(t *testing.T) {
	mux, _ := serviceMux(CloudWatch())
	for name, client := range cloudWatchClients(t, FrontDoor(openMux(), mux)) {
		t.Run(name, func(t *testing.T) {
			roundTrip(t, mux, client, map[string]model.Protocol{"cbor": model.CBOR, "json": model.AWSJSON, "query": model.Query}[name])
		})
	}
}
