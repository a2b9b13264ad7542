package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// functionURL is the configuration of a function URL as it is stored.
type functionURL struct {
	ID       string
	AuthType types.FunctionUrlAuthType
	Mode     types.InvokeMode
	Cors     *types.Cors `json:",omitempty"`
	Created  string
	Modified string
}

// URL finds a function URL by its identity, from memory. ok is false when
// there is none.
func (c *Control) URL(id string) (u URL, ok bool) {
	v, ok := c.urls.Load(id)
	if !ok {
		return u, false
	}
	ref := v.(firn.FunctionRef)
	f, err := c.function(ref)
	if err != nil {
		return u, false
	}
	stored := f.attachments().urls[ref.Qualifier]
	if stored == nil || stored.ID != id {
		return u, false // changed in this moment
	}
	u = URL{ID: id, Function: ref, AuthIAM: stored.AuthType == types.FunctionUrlAuthTypeAwsIam, Streaming: stored.Mode == types.InvokeModeResponseStream}
	if cors := stored.Cors; cors != nil {
		u.Cors = &Cors{AllowHeaders: cors.AllowHeaders, AllowMethods: cors.AllowMethods, AllowOrigins: cors.AllowOrigins, ExposeHeaders: cors.ExposeHeaders}
		u.Cors.AllowCredentials = cors.AllowCredentials != nil && *cors.AllowCredentials
		if cors.MaxAge != nil {
			u.Cors.MaxAge = int(*cors.MaxAge)
		}
	}
	return u, true
}

// newURLID is 32 letters and digits, as on AWS; 160 bits of chance.
func newURLID() string {
	var raw [20]byte
	rand.Read(raw[:]) // never fails: it ends the program instead
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// urlTime is the form of the times of function URLs.
func (c *Control) urlTime() string { return c.cfg.Now().UTC().Format("2006-01-02T15:04:05.000000Z") }

func (c *Control) showURL(ref firn.FunctionRef, u *functionURL) *types.FunctionUrlConfig {
	return &types.FunctionUrlConfig{
		FunctionArn: ptr(c.arnOf(ref)), FunctionUrl: ptr(c.cfg.Effects.FunctionURL(u.ID)),
		AuthType: u.AuthType, InvokeMode: u.Mode, Cors: u.Cors, CreationTime: &u.Created, LastModifiedTime: &u.Modified,
	}
}

// editURL changes the URL of a function or alias, which must exist. The errors
// of AWS name neither.
func (c *Control) editURL(ctx context.Context, ref firn.FunctionRef, change func(*edit, *functionURL) error) error {
	missing := firn.Faultf(firn.ResourceNotFound, "Function does not exist")
	if _, err := c.function(ref); err != nil {
		return missing
	}
	return c.edit(ctx, ref, func(e *edit) error {
		if e.existing(ref) != nil {
			return missing
		}
		return change(e, e.urls[ref.Qualifier])
	})
}

// corsOf is what a given Cors means: an empty one that there is none, which is
// how it is taken away again.
func corsOf(in *types.Cors) (*types.Cors, error) {
	switch {
	case in == nil || len(in.AllowOrigins) > 0:
		return in, nil
	case in.AllowCredentials == nil && in.MaxAge == nil && len(in.AllowHeaders)+len(in.AllowMethods)+len(in.ExposeHeaders) == 0:
		return nil, nil
	}
	return nil, firn.Faultf(firn.InvalidParameterValue, "You can't leave AllowOrigins as empty when Cors is enabled.")
}

func (c *Control) createFunctionURLConfig(ctx context.Context, in *lambda.CreateFunctionUrlConfigInput) (*lambda.CreateFunctionUrlConfigOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	cors, err := corsOf(in.Cors)
	if err != nil {
		return nil, err
	}
	u := &functionURL{ID: newURLID(), AuthType: in.AuthType, Mode: cmp.Or(in.InvokeMode, types.InvokeModeBuffered), Cors: cors, Created: c.urlTime()}
	u.Modified = u.Created
	err = c.editURL(ctx, ref, func(e *edit, old *functionURL) error {
		if old != nil {
			return firn.Faultf(firn.ResourceConflict, "Failed to create function url config for [functionArn = %s]. Error message:  FunctionUrlConfig exists for this Lambda function", c.arnOf(ref))
		}
		put(e, &e.urls, kindURL, ref.Qualifier, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := convert[lambda.CreateFunctionUrlConfigOutput](c.showURL(ref, u))
	out.InvokeMode = in.InvokeMode // AWS tells it here only if it was asked for
	return out, nil
}

func (c *Control) updateFunctionURLConfig(ctx context.Context, in *lambda.UpdateFunctionUrlConfigInput) (*lambda.UpdateFunctionUrlConfigOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	cors, err := corsOf(in.Cors)
	if err != nil {
		return nil, err
	}
	var u functionURL
	err = c.editURL(ctx, ref, func(e *edit, old *functionURL) error {
		if old == nil {
			return noResource()
		}
		u = *old
		u.AuthType, u.Mode = cmp.Or(in.AuthType, u.AuthType), cmp.Or(in.InvokeMode, u.Mode)
		if in.Cors != nil {
			u.Cors = cors
		}
		u.Modified = c.urlTime()
		put(e, &e.urls, kindURL, ref.Qualifier, &u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := convert[lambda.UpdateFunctionUrlConfigOutput](c.showURL(ref, &u))
	out.InvokeMode = in.InvokeMode // as on creation
	return out, nil
}

func (c *Control) getFunctionURLConfig(_ context.Context, in *lambda.GetFunctionUrlConfigInput) (*lambda.GetFunctionUrlConfigOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, noResource()
	}
	u := f.attachments().urls[ref.Qualifier]
	if u == nil {
		return nil, noResource()
	}
	return convert[lambda.GetFunctionUrlConfigOutput](c.showURL(ref, u)), nil
}

func (c *Control) listFunctionURLConfigs(_ context.Context, in *lambda.ListFunctionUrlConfigsInput) (*lambda.ListFunctionUrlConfigsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "Function does not exist")
	}
	urls := f.attachments().urls
	list := []types.FunctionUrlConfig{}
	for _, q := range sortedKeys(urls) {
		ref.Qualifier = q
		list = append(list, *c.showURL(ref, urls[q]))
	}
	out := &lambda.ListFunctionUrlConfigsOutput{}
	out.FunctionUrlConfigs, out.NextMarker = page(list, after, in.MaxItems, func(u types.FunctionUrlConfig) string { return *u.FunctionArn })
	return out, nil
}

func (c *Control) deleteFunctionURLConfig(ctx context.Context, in *lambda.DeleteFunctionUrlConfigInput) (*lambda.DeleteFunctionUrlConfigOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if _, err := c.function(ref); err != nil {
		return nil, noResource()
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.urls[ref.Qualifier] == nil {
			return noResource()
		}
		drop(e, &e.urls, kindURL, ref.Qualifier)
		return nil
	})
	return &lambda.DeleteFunctionUrlConfigOutput{}, err
}
