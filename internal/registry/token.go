package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

const (
	// tokenValid is how long a password holds ("GetAuthorizationToken").
	tokenValid = 12 * time.Hour
	tokenUser  = "AWS"
	// tokenIdentity binds the seal of passwords to their use.
	tokenIdentity = "ecr authorization token"
	maxToken      = 8192
)

// claims is what a password says, sealed.
type claims struct {
	ARN     string
	Account string
	Root    bool `json:",omitempty"`
	Expires int64
}

// password makes the password of an identity. Its text has no colon: the AWS
// CLI and others split name and password at every one.
func (r *Registry) password(id firn.Identity, expires time.Time) (string, error) {
	plain, err := json.Marshal(claims{ARN: id.ARN, Account: id.Account, Root: id.Root, Expires: expires.Unix()})
	if err != nil {
		return "", err
	}
	if r.cfg.Sealer == nil {
		// Nobody checks it, but clients insist on one.
		return base64.RawURLEncoding.EncodeToString([]byte("open")), nil
	}
	return base64.RawURLEncoding.EncodeToString([]byte(r.cfg.Sealer.Seal(plain, tokenIdentity))), nil
}

var (
	errNoPassword = errors.New("not a password of this registry")
	errExpired    = errors.New("password has expired")
)

// verify returns whom a password stands for.
func (r *Registry) verify(password string) (firn.Identity, error) {
	if len(password) > maxToken {
		return firn.Identity{}, errNoPassword
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(password)
	if err != nil {
		return firn.Identity{}, errNoPassword
	}
	plain, err := r.cfg.Sealer.Open(string(sealed), tokenIdentity)
	if err != nil {
		return firn.Identity{}, errNoPassword
	}
	var c claims
	if err := json.Unmarshal(plain, &c); err != nil {
		return firn.Identity{}, errNoPassword
	}
	if !r.cfg.Now().Before(time.Unix(c.Expires, 0)) {
		return firn.Identity{}, errExpired
	}
	return firn.Identity{ARN: c.ARN, Account: c.Account, Root: c.Root}, nil
}

// authenticate finds out who makes a request to the distribution API. It
// answers itself when it is nobody.
func (r *Registry) authenticate(w http.ResponseWriter, req *http.Request) (firn.Identity, bool) {
	if r.cfg.Sealer == nil {
		return r.cfg.Anonymous, true
	}
	user, password, ok := req.BasicAuth()
	if ok && user == tokenUser {
		id, err := r.verify(password)
		if err == nil {
			return id, true
		}
		if errors.Is(err, errExpired) {
			writeError(w, &errStatus{http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again."})
			return firn.Identity{}, false
		}
	}
	scheme := "http"
	if forwardedTLS(req) {
		scheme = "https"
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="`+scheme+`://`+quotable(req.Host)+`/",service="ecr.amazonaws.com"`)
	writeError(w, &errStatus{http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized"})
	return firn.Identity{}, false
}

// quotable keeps what a client calls us from breaking out of a header's quotes.
func quotable(host string) string {
	for _, c := range []byte(host) {
		if c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return ""
		}
	}
	return host
}

func (r *Registry) getAuthorizationToken(ctx context.Context, in *ecr.GetAuthorizationTokenInput) (*ecr.GetAuthorizationTokenOutput, error) {
	expires := r.cfg.Now().Add(tokenValid).UTC().Truncate(time.Second)
	password, err := r.password(awswire.IdentityOf(ctx), expires)
	if err != nil {
		return nil, err
	}
	// One for all registries that are asked for: they are all at this address.
	out := &ecr.GetAuthorizationTokenOutput{AuthorizationData: []types.AuthorizationData{}}
	//lint:ignore SA1019 clients of all ages send it
	for range max(1, len(in.RegistryIds)) {
		out.AuthorizationData = append(out.AuthorizationData, types.AuthorizationData{
			AuthorizationToken: new(base64.StdEncoding.EncodeToString([]byte(tokenUser + ":" + password))),
			ExpiresAt:          &expires,
			ProxyEndpoint:      new(r.baseURL(ctx)),
		})
	}
	return out, nil
}

func (r *Registry) describeRegistry(ctx context.Context, _ *ecr.DescribeRegistryInput) (*ecr.DescribeRegistryOutput, error) {
	account := awswire.IdentityOf(ctx).Account
	return &ecr.DescribeRegistryOutput{
		RegistryId:               &account,
		ReplicationConfiguration: &types.ReplicationConfiguration{Rules: []types.ReplicationRule{}},
	}, nil
}
