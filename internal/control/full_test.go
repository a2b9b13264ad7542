package control_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// TestFullStore fills the database: what is refused leaves no trace, in memory
// or on disk, and what was there goes on.
func TestFullStore(t *testing.T) {
	w := newWorld(t, options{maxStateBytes: 256 << 10})
	ctx := t.Context()
	large := &types.Environment{Variables: map[string]string{"LARGE": strings.Repeat("x", 4000)}}
	var made []string
	var err error
	for i := 0; err == nil && i < 100; i++ {
		in := creation(fmt.Sprint("f", i), small(fmt.Sprint(i)))
		in.Environment = large
		if _, err = w.CreateFunction(ctx, in); err == nil {
			made = append(made, *in.FunctionName)
		}
	}
	const full = "firn's data directory is full; free some space and try again."
	wantFault(t, err, "ServiceException", full)
	refused := fmt.Sprint("f", len(made))
	check := func() {
		t.Helper()
		out, err := w.ListFunctions(ctx, &lambda.ListFunctionsInput{})
		if err != nil || len(out.Functions) != len(made) {
			t.Errorf("%d functions, %v; want %d", len(out.Functions), err, len(made))
		}
		settings, err := w.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
		if err != nil || settings.AccountUsage.FunctionCount != int64(len(made)) {
			t.Errorf("%+v, %v", settings.AccountUsage, err)
		}
		_, err = w.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: &refused})
		wantFault(t, err, "ResourceNotFoundException", "Function not found: "+functionARN(refused))
	}
	check()
	w.control.Sweep(ctx)
	if n := w.countBlobs(); n != len(made) {
		t.Errorf("%d archives for %d functions", n, len(made))
	}
	// Room is made by deleting, and used again.
	for _, name := range made[:len(made)/2] {
		if _, err := w.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	made = made[len(made)/2:]
	w.create("after", hello())
	made = append(made, "after")
	check()
	for _, name := range made {
		w.active(name) // those that could not be settled have been since
	}
	w.restart()
	check()
	if _, err := w.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("after"), Timeout: aws.Int32(9)}); err != nil {
		t.Error(err)
	}
}
