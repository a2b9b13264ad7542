package control_test

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// permit is a request for one more statement.
func permit(function, sid string, edit ...func(*lambda.AddPermissionInput)) call {
	in := permission(function, sid, "lambda:InvokeFunction", "s3.amazonaws.com")
	for _, e := range edit {
		e(&in)
	}
	return send(&in)
}

// policyEntries are the operations on resource policies of functions.
func policyEntries() map[string]entry {
	f := str(functionARN("f"))
	return map[string]entry{
		"AddPermission": {
			success: permit("f", "new"), has: "Statement",
			errors: map[string]call{
				invalidCode:  permit("f", "bad", func(in *lambda.AddPermissionInput) { in.Principal = str("nobody") }),
				conflictCode: permit("f", "s"),
				notFoundCode: permit("no", "s"),
				preconCode:   permit("f", "other", func(in *lambda.AddPermissionInput) { in.RevisionId = str(wrongRevision) }),
				policyCode:   permit("long", "more"),
			},
		},
		"RemovePermission": {
			success: send(&lambda.RemovePermissionInput{FunctionName: str("d:1"), StatementId: str("s")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.RemovePermissionInput{FunctionName: str("f:1"), Qualifier: str("2"), StatementId: str("s")}),
				notFoundCode: send(&lambda.RemovePermissionInput{FunctionName: str("f"), StatementId: str("no")}),
				preconCode:   send(&lambda.RemovePermissionInput{FunctionName: str("f"), StatementId: str("s"), RevisionId: str(wrongRevision)}),
			},
		},
		"GetPolicy": {
			success: send(&lambda.GetPolicyInput{FunctionName: str("f")}), has: "Policy RevisionId",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetPolicyInput{FunctionName: str("f:1"), Qualifier: str("2")}),
				notFoundCode: send(&lambda.GetPolicyInput{FunctionName: str("bare")}),
			},
		},
		"PutResourcePolicy": {
			success: send(&lambda.PutResourcePolicyInput{ResourceArn: str(*f + ":2"), Policy: str(policyOf("*", 0))}), has: "Policy RevisionId",
			errors: map[string]call{
				invalidCode:  send(&lambda.PutResourcePolicyInput{ResourceArn: f, Policy: str("{}")}),
				notFoundCode: send(&lambda.PutResourcePolicyInput{ResourceArn: str(functionARN("no")), Policy: str(policyOf("*", 0))}),
				preconCode:   send(&lambda.PutResourcePolicyInput{ResourceArn: f, Policy: str(policyOf("*", 0)), RevisionId: str(wrongRevision)}),
				// The model counts characters, the limit of policies bytes.
				policyCode: send(&lambda.PutResourcePolicyInput{ResourceArn: f, Policy: str(policyOf(strings.Repeat("é", 20000), 0))}),
			},
		},
		"GetResourcePolicy": {
			success: send(&lambda.GetResourcePolicyInput{ResourceArn: f}), has: "Policy RevisionId",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetResourcePolicyInput{ResourceArn: str(*f + ":$LATEST")}),
				notFoundCode: send(&lambda.GetResourcePolicyInput{ResourceArn: str(functionARN("bare"))}),
			},
		},
		"DeleteResourcePolicy": {
			success: send(&lambda.DeleteResourcePolicyInput{ResourceArn: str(functionARN("d"))}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteResourcePolicyInput{ResourceArn: str(*f + ":$LATEST")}),
				notFoundCode: send(&lambda.DeleteResourcePolicyInput{ResourceArn: str(functionARN("bare"))}),
				preconCode:   send(&lambda.DeleteResourcePolicyInput{ResourceArn: f, RevisionId: str(wrongRevision)}),
			},
		},
	}
}

// layerEntries are the operations on layers and their policies.
func layerEntries() map[string]entry {
	one, none, nine := aws.Int64(1), aws.Int64(0), aws.Int64(9)
	layerPermit := func(sid string, edit func(*lambda.AddLayerVersionPermissionInput)) call {
		in := layerPermission("l", sid)
		edit(in)
		return send(in)
	}
	content := &types.LayerVersionContentInput{ZipFile: small("new")}
	return map[string]entry{
		"PublishLayerVersion": {
			success: send(&lambda.PublishLayerVersionInput{LayerName: str("l"), Content: content}), has: "LayerArn LayerVersionArn Version Content CreatedDate",
			errors: map[string]call{
				invalidCode: send(&lambda.PublishLayerVersionInput{LayerName: str("l"), Content: &types.LayerVersionContentInput{}}),
				storageCode: onForeign(&lambda.PublishLayerVersionInput{LayerName: str("l"), Content: content}),
			},
		},
		"GetLayerVersion": {
			success: send(&lambda.GetLayerVersionInput{LayerName: str("l"), VersionNumber: one}), has: "LayerArn LayerVersionArn Version Content CreatedDate",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetLayerVersionInput{LayerName: str("l"), VersionNumber: none}),
				notFoundCode: send(&lambda.GetLayerVersionInput{LayerName: str("l"), VersionNumber: nine}),
			},
		},
		"GetLayerVersionByArn": {
			success: send(&lambda.GetLayerVersionByArnInput{Arn: str(layerARN("l", 1))}), has: "LayerArn LayerVersionArn Version Content",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetLayerVersionByArnInput{Arn: str(strings.Replace(layerARN("l", 1), region, "eu-west-1", 1))}),
				notFoundCode: send(&lambda.GetLayerVersionByArnInput{Arn: str(layerARN("l", 9))}),
			},
		},
		"ListLayers": {
			success: send(&lambda.ListLayersInput{}), has: "Layers",
			errors: map[string]call{invalidCode: send(&lambda.ListLayersInput{Marker: str("!")})},
		},
		"ListLayerVersions": {
			success: send(&lambda.ListLayerVersionsInput{LayerName: str("l")}), has: "LayerVersions",
			errors: map[string]call{invalidCode: send(&lambda.ListLayerVersionsInput{LayerName: str("l"), Marker: str("!")})},
		},
		"DeleteLayerVersion": {
			success: send(&lambda.DeleteLayerVersionInput{LayerName: str("l"), VersionNumber: aws.Int64(2)}),
			errors:  map[string]call{invalidCode: send(&lambda.DeleteLayerVersionInput{LayerName: str("l"), VersionNumber: none})},
		},
		"AddLayerVersionPermission": {
			success: send(layerPermission("l", "new")), has: "Statement RevisionId",
			errors: map[string]call{
				invalidCode:  layerPermit("bad", func(in *lambda.AddLayerVersionPermissionInput) { in.OrganizationId = str("o-0123456789") }),
				conflictCode: send(layerPermission("l", "s")),
				notFoundCode: send(layerPermission("nol", "s")),
				preconCode:   layerPermit("other", func(in *lambda.AddLayerVersionPermissionInput) { in.RevisionId = str(wrongRevision) }),
				policyCode:   fillLayerPolicy,
			},
		},
		"RemoveLayerVersionPermission": {
			success: send(&lambda.RemoveLayerVersionPermissionInput{LayerName: str("l"), VersionNumber: one, StatementId: str("new")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.RemoveLayerVersionPermissionInput{LayerName: str("l"), VersionNumber: none, StatementId: str("s")}),
				notFoundCode: send(&lambda.RemoveLayerVersionPermissionInput{LayerName: str("l"), VersionNumber: one, StatementId: str("no")}),
				preconCode:   send(&lambda.RemoveLayerVersionPermissionInput{LayerName: str("l"), VersionNumber: one, StatementId: str("s"), RevisionId: str(wrongRevision)}),
			},
		},
		"GetLayerVersionPolicy": {
			success: send(&lambda.GetLayerVersionPolicyInput{LayerName: str("l"), VersionNumber: one}), has: "Policy RevisionId",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetLayerVersionPolicyInput{LayerName: str("l"), VersionNumber: none}),
				notFoundCode: send(&lambda.GetLayerVersionPolicyInput{LayerName: str("l"), VersionNumber: nine}),
			},
		},
	}
}

// fillLayerPolicy adds statements to a layer version until one is refused.
func fillLayerPolicy(s *suite) (out any, err error) {
	for i := 0; err == nil && i < 200; i++ {
		in := layerPermission("l", fmt.Sprintf("%04d%s", i, strings.Repeat("x", 96)))
		in.VersionNumber = aws.Int64(3)
		in.Principal, in.OrganizationId = str("*"), str("o-"+strings.Repeat("a", 32))
		out, err = s.send(in)
	}
	return out, err
}
