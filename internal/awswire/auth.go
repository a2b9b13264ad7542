package awswire

import "github.com/firn-run/firn/internal/awswire/auth"

// Credentials finds the secret of an access key; see package auth.
type Credentials = auth.Credentials

// AuthConfig is what an Authenticator needs; see package auth.
type AuthConfig = auth.Config

// Authenticator verifies signatures; see package auth.
type Authenticator = auth.Authenticator

// NewAuthenticator makes an Authenticator.
func NewAuthenticator(cfg AuthConfig) *Authenticator { return auth.New(cfg) }
