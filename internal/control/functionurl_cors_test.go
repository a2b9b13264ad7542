package control_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// An empty Cors takes the CORS of a URL away, and reading the URL tells of
// none: tools that remove a cors block send it, and compare what they read.
func TestFunctionURLWithoutCors(t *testing.T) {
	w := newWorld(t, options{effects: urlEffects()})
	w.versions("f", 1)
	name := aws.String("f")
	const refused = "InvalidParameterValueException: You can't leave AllowOrigins as empty when Cors is enabled."
	create := func(cors *types.Cors) (*types.Cors, error) {
		out, err := w.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: types.FunctionUrlAuthTypeNone, Cors: cors})
		if err != nil {
			return nil, err
		}
		return out.Cors, nil
	}
	if _, err := create(&types.Cors{AllowMethods: []string{"GET"}}); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("methods without origins: %v", err)
	}
	if cors, err := create(&types.Cors{AllowOrigins: []string{"*"}, MaxAge: aws.Int32(1)}); err != nil || cors == nil {
		t.Fatalf("%+v, %v", cors, err)
	}
	update := func(cors *types.Cors) (*types.Cors, error) {
		out, err := w.UpdateFunctionUrlConfig(t.Context(), &lambda.UpdateFunctionUrlConfigInput{FunctionName: name, Cors: cors})
		if err != nil {
			return nil, err
		}
		return out.Cors, nil
	}
	if _, err := update(&types.Cors{AllowCredentials: aws.Bool(false)}); err == nil || !strings.Contains(err.Error(), refused) {
		t.Errorf("credentials without origins: %v", err)
	}
	if cors, err := update(nil); err != nil || cors == nil || *cors.MaxAge != 1 {
		t.Errorf("unchanged: %+v, %v", cors, err)
	}
	if cors, err := update(&types.Cors{}); err != nil || cors != nil {
		t.Errorf("taken away: %+v, %v", cors, err)
	}
	read, err := w.GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: name})
	if err != nil || read.Cors != nil {
		t.Errorf("%+v, %v", read, err)
	}
}
