package identity_test

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/identity"
)

// clientOf is the SDK's client, each of whose requests is made by who.
func clientOf(t *testing.T, who firn.Identity) *sts.Client {
	t.Helper()
	mux := awswire.NewService(awswire.Config{Logger: slog.New(slog.DiscardHandler), Anonymous: who}, awswire.STS())
	identity.Mount(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return sts.New(sts.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(srv.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
}

func TestGetCallerIdentity(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct{ arn, user string }{
		{"arn:aws:iam::123456789012:root", `123456789012`},
		{"arn:aws:sts::123456789012:assumed-role/demo/hello", `AROA[A-Z2-7]{17}:hello`},
		{"arn:aws:sts::123456789012:assumed-role/demo/other", `AROA[A-Z2-7]{17}:other`},
		{"arn:aws:sts::123456789012:assumed-role/second/hello", `AROA[A-Z2-7]{17}:hello`},
		{"arn:aws:iam::123456789012:user/ann", `AIDA[A-Z2-7]{17}`},
	} {
		out, err := clientOf(t, firn.Identity{ARN: c.arn, Account: "123456789012"}).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Arn != c.arn || *out.Account != "123456789012" || !regexp.MustCompile(`^`+c.user+`$`).MatchString(*out.UserId) {
			t.Errorf("%s: %s, %s, %s", c.arn, *out.Arn, *out.Account, *out.UserId)
		}
		seen[c.arn], _, _ = strings.Cut(*out.UserId, ":")
	}
	role := func(name string) string { return seen["arn:aws:sts::123456789012:assumed-role/"+name] }
	if role("demo/hello") != role("demo/other") || role("demo/hello") == role("second/hello") {
		t.Errorf("a role has one identity, and each its own: %v", seen)
	}
}

// Whoever needs more of the service is told by name that it is not there.
func TestOtherOperations(t *testing.T) {
	_, err := clientOf(t, firn.Identity{}).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/demo"), RoleSessionName: aws.String("me")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "NotImplementedException" || !strings.Contains(api.ErrorMessage(), "AssumeRole") {
		t.Error(err)
	}
}
