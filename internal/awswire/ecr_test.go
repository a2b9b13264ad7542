package awswire

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
)

// TestValidationOfECR tells of the first broken constraint alone.
func TestValidationOfECR(t *testing.T) {
	mux := openService(ECR())
	Handle(mux, func(context.Context, *ecr.CreateRepositoryInput) (*ecr.CreateRepositoryOutput, error) {
		return nil, nil
	})
	Handle(mux, func(context.Context, *ecr.DescribeRepositoriesInput) (*ecr.DescribeRepositoriesOutput, error) {
		return nil, nil
	})
	Handle(mux, func(context.Context, *ecr.BatchGetImageInput) (*ecr.BatchGetImageOutput, error) { return nil, nil })
	Handle(mux, func(context.Context, *ecr.GetAuthorizationTokenInput) (*ecr.GetAuthorizationTokenOutput, error) {
		return nil, nil
	})
	const pattern = `'must satisfy regular expression '[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*''`
	for _, c := range []struct{ operation, body, at, want string }{
		{"CreateRepository", `{"repositoryName":"Bad_Name!"}`, "repositoryName", pattern},
		{"CreateRepository", `{"repositoryName":"a","imageTagMutability":"x"}`, "repositoryName", "'must have length greater than or equal to 2'"},
		{"CreateRepository", `{}`, "repositoryName", "'must not be null'"},
		{"CreateRepository", `{"repositoryName":"ab","imageTagMutability":"x"}`, "imageTagMutability",
			"'Member must satisfy enum value set: [IMMUTABLE, MUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION]'"},
		{"CreateRepository", `{"repositoryName":"ab","tags":[{"Key":"k","Value":"v"},{"Value":"v"}]}`, "tags.2.member.key", "'Member must not be null'"},
		{"CreateRepository", `{"repositoryName":"ab","registryId":"12"}`, "registryId", "'must satisfy regular expression [0-9]{12}'"},
		{"DescribeRepositories", `{"repositoryNames":["host/app:latest"]}`, "repositoryName", pattern},
		{"DescribeRepositories", `{"maxResults":1001}`, "maxResults", "'Member must have value less than or equal to 1000'"},
		{"GetAuthorizationToken", `{"registryIds":["12"]}`, "registryIds", "'Member must satisfy constraint: [Member must satisfy regular expression pattern: [0-9]{12}]'"},
		{"BatchGetImage", `{"repositoryName":"ab","imageIds":[]}`, "imageIds", "'Member must have length greater than or equal to 1'"},
	} {
		w := call(mux, "POST", "/", c.body, "X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921."+c.operation, "Content-Type", "application/x-amz-json-1.1")
		var got struct {
			Type    string `json:"__type"`
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 400 || got.Type != "InvalidParameterException" ||
			got.Message != "Invalid parameter at '"+c.at+"' failed to satisfy constraint: "+c.want {
			t.Errorf("%s %s: %d %s", c.operation, c.body, w.Code, w.Body)
		}
	}
}
