package model

import (
	"github.com/aws/smithy-go"
)

// stsNamespace is that of the shapes of the Security Token Service.
const stsNamespace = "com.amazonaws.sts"

// STS is the Security Token Service. The SDK publishes no schemas of it; what
// is served of it is small enough to be said here.
func STS() *Service {
	return &Service{
		Name:        "AWS Security Token Service",
		SigningName: "sts",
		Version:     "2011-06-15",
		Namespace:   "https://sts.amazonaws.com/doc/2011-06-15/",
		Protocols:   []Protocol{Query},
		MaxBody:     maxBody,
		Invalid:     "ValidationError",
		Internal:    "InternalFailure",
		Operations:  stsOperations(),
		Types:       &smithy.TypeRegistry{},
	}
}

// stsOperations lists every operation of the Security Token Service. A test
// holds it against the methods of the SDK's client.
func stsOperations() []*smithy.Schema {
	var all []*smithy.Schema
	for _, name := range []string{
		"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot",
		"DecodeAuthorizationMessage", "GetAccessKeyInfo", "GetCallerIdentity", "GetDelegatedAccessToken",
		"GetFederationToken", "GetSessionToken", "GetWebIdentityToken",
	} {
		all = append(all, smithy.NewSchema(smithy.ShapeID{Namespace: stsNamespace, Name: name}, smithy.ShapeTypeOperation, 0))
	}
	return all
}

// GetCallerIdentityInput is what GetCallerIdentity is asked: nothing.
type GetCallerIdentityInput struct{}

// Serialize implements smithy.Serializable, which tells the schema.
func (*GetCallerIdentityInput) Serialize(s smithy.ShapeSerializer) {
	s.WriteStruct(stsStructure("GetCallerIdentityRequest"))
	s.CloseStruct()
}

// GetCallerIdentityOutput is who signed a request.
type GetCallerIdentityOutput struct {
	// Arn is the principal, Account the twelve digits of its account and
	// UserId the identity that IAM has for it.
	Arn, UserId, Account *string
}

// Serialize implements smithy.Serializable, which tells the schema.
func (*GetCallerIdentityOutput) Serialize(s smithy.ShapeSerializer) {
	s.WriteStruct(stsStructure("GetCallerIdentityResponse", "Arn", "UserId", "Account"))
	s.CloseStruct()
}

// stsStructure is the schema of a structure whose members are strings.
func stsStructure(name string, members ...string) *smithy.Schema {
	s := smithy.NewSchema(smithy.ShapeID{Namespace: stsNamespace, Name: name}, smithy.ShapeTypeStructure, len(members))
	text := smithy.NewSchema(smithy.ShapeID{Namespace: stsNamespace, Name: "String"}, smithy.ShapeTypeString, 0)
	for _, member := range members {
		s.AddMember(member, text)
	}
	return s
}
