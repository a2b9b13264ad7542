// Package identity answers who somebody is: the part of the Security Token
// Service that tools ask before they do anything else.
package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/awswire/model"
)

// Mount serves GetCallerIdentity.
func Mount(mux *awswire.Mux) { awswire.Handle(mux, getCallerIdentity) }

// getCallerIdentity needs no permission, as on AWS: the signature proved it all.
func getCallerIdentity(ctx context.Context, _ *model.GetCallerIdentityInput) (*model.GetCallerIdentityOutput, error) {
	caller := awswire.IdentityOf(ctx)
	id := userID(caller.ARN, caller.Account)
	return &model.GetCallerIdentityOutput{Arn: &caller.ARN, UserId: &id, Account: &caller.Account}, nil
}

// userID is the identity of a principal: the account for its root, a role's
// with the name of the session, or a user's. There is no IAM that would have
// given them out, so they follow from the names.
func userID(arn, account string) string {
	_, name, ok := strings.Cut(arn, ":assumed-role/")
	if ok {
		role, session := name, ""
		if i := strings.LastIndex(name, "/"); i >= 0 {
			role, session = name[:i], name[i+1:]
		}
		return "AROA" + digest(account+"/"+role) + ":" + session
	}
	if _, name, ok := strings.Cut(arn, ":user/"); ok {
		return "AIDA" + digest(account+"/"+name)
	}
	return account
}

// digest is 17 letters and digits, as in the identities that IAM gives.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base32.StdEncoding.EncodeToString(sum[:])[:17]
}
