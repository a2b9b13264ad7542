package control_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// textHasNoLevel is AWS's refusal of levels in the text format.
const textHasNoLevel = `LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "Json" and try again.`

// logging is a LoggingConfig that compares.
type logging struct {
	format              types.LogFormat
	application, system string
	group               string
}

func loggingOf(c *types.LoggingConfig) logging {
	if c == nil {
		return logging{}
	}
	return logging{c.LogFormat, string(c.ApplicationLogLevel), string(c.SystemLogLevel), aws.ToString(c.LogGroup)}
}

// serves fails unless every operation that shows a function's logging, and the
// engine, have want.
func (w *world) serves(name string, want logging) {
	w.t.Helper()
	if got := loggingOf(w.configuration(name).LoggingConfig); got != want {
		w.t.Errorf("GetFunctionConfiguration: %+v, want %+v", got, want)
	}
	whole, err := w.GetFunction(w.t.Context(), &lambda.GetFunctionInput{FunctionName: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	if got := loggingOf(whole.Configuration.LoggingConfig); got != want {
		w.t.Errorf("GetFunction: %+v, want %+v", got, want)
	}
	list, err := w.ListFunctions(w.t.Context(), &lambda.ListFunctionsInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	found := false
	for _, f := range list.Functions {
		if *f.FunctionName == name {
			found = true
			if got := loggingOf(f.LoggingConfig); got != want {
				w.t.Errorf("ListFunctions: %+v, want %+v", got, want)
			}
		}
	}
	if !found {
		w.t.Error("ListFunctions does not have it")
	}
	version, _, err := w.control.Resolve(firn.FunctionRef{Name: name})
	if err != nil {
		w.t.Fatal(err)
	}
	if got := (logging{want.format, version.ApplicationLogLevel, version.SystemLogLevel, version.LogGroup}); got != want ||
		version.LogFormatJSON != (want.format == types.LogFormatJson) {
		w.t.Errorf("the engine: JSON %t, %+v, want %+v", version.LogFormatJSON, got, want)
	}
}

func TestCreateWithLogging(t *testing.T) {
	w := newWorld(t, options{})
	const standard = "/aws/lambda/"
	for name, test := range map[string]struct {
		in   *types.LoggingConfig
		want logging
	}{
		"none":        {nil, logging{types.LogFormatText, "", "", standard + "none"}},
		"empty":       {&types.LoggingConfig{}, logging{types.LogFormatText, "", "", standard + "empty"}},
		"text":        {&types.LoggingConfig{LogFormat: types.LogFormatText}, logging{types.LogFormatText, "", "", standard + "text"}},
		"group":       {&types.LoggingConfig{LogGroup: aws.String("/my/group")}, logging{types.LogFormatText, "", "", "/my/group"}},
		"json":        {&types.LoggingConfig{LogFormat: types.LogFormatJson}, logging{types.LogFormatJson, "INFO", "INFO", standard + "json"}},
		"application": {&types.LoggingConfig{LogFormat: types.LogFormatJson, ApplicationLogLevel: types.ApplicationLogLevelTrace}, logging{types.LogFormatJson, "TRACE", "INFO", standard + "application"}},
		"all": {&types.LoggingConfig{LogFormat: types.LogFormatJson, ApplicationLogLevel: types.ApplicationLogLevelFatal,
			SystemLogLevel: types.SystemLogLevelWarn, LogGroup: aws.String("g")}, logging{types.LogFormatJson, "FATAL", "WARN", "g"}},
	} {
		in := creation(name, hello())
		in.LoggingConfig = test.in
		out, err := w.CreateFunction(t.Context(), in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := loggingOf(out.LoggingConfig); got != test.want {
			t.Errorf("%s: CreateFunction: %+v, want %+v", name, got, test.want)
		}
		w.active(name)
		w.serves(name, test.want)
	}
}

// What an update leaves out stays; levels go when the text format comes back.
func TestUpdateLogging(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	update := func(in *types.LoggingConfig, want logging) {
		t.Helper()
		out, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), LoggingConfig: in})
		if err != nil {
			t.Fatal(err)
		}
		if got := loggingOf(out.LoggingConfig); got != want {
			t.Errorf("UpdateFunctionConfiguration: %+v, want %+v", got, want)
		}
		w.active("f")
		w.serves("f", want)
	}
	refused := func(in *types.LoggingConfig) {
		t.Helper()
		before := loggingOf(w.configuration("f").LoggingConfig)
		_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), LoggingConfig: in})
		wantFault(t, err, "InvalidParameterValueException", textHasNoLevel)
		w.serves("f", before)
	}
	const standard = "/aws/lambda/f"
	refused(&types.LoggingConfig{ApplicationLogLevel: types.ApplicationLogLevelInfo})
	refused(&types.LoggingConfig{LogFormat: types.LogFormatText, SystemLogLevel: types.SystemLogLevelInfo})
	update(&types.LoggingConfig{LogFormat: types.LogFormatJson, SystemLogLevel: types.SystemLogLevelDebug}, logging{types.LogFormatJson, "INFO", "DEBUG", standard})
	update(&types.LoggingConfig{ApplicationLogLevel: types.ApplicationLogLevelError}, logging{types.LogFormatJson, "ERROR", "DEBUG", standard})
	update(&types.LoggingConfig{LogGroup: aws.String("/own")}, logging{types.LogFormatJson, "ERROR", "DEBUG", "/own"})
	update(nil, logging{types.LogFormatJson, "ERROR", "DEBUG", "/own"})
	w.restart()
	w.serves("f", logging{types.LogFormatJson, "ERROR", "DEBUG", "/own"})
	refused(&types.LoggingConfig{LogFormat: types.LogFormatText, ApplicationLogLevel: types.ApplicationLogLevelDebug})
	update(&types.LoggingConfig{LogFormat: types.LogFormatText}, logging{types.LogFormatText, "", "", "/own"})
	update(&types.LoggingConfig{LogFormat: types.LogFormatJson}, logging{types.LogFormatJson, "INFO", "INFO", "/own"})
}

func TestTracingConfig(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello(), func(in *lambda.CreateFunctionInput) {
		in.TracingConfig = &types.TracingConfig{Mode: types.TracingModeActive}
	})
	serves := func(want types.TracingMode) {
		t.Helper()
		if got := w.configuration("f").TracingConfig.Mode; got != want {
			t.Errorf("GetFunctionConfiguration: %s, want %s", got, want)
		}
		version, _, err := w.control.Resolve(firn.FunctionRef{Name: "f"})
		if err != nil || version.TracingActive != (want == types.TracingModeActive) {
			t.Errorf("the engine: %+v, %v", version, err)
		}
	}
	serves(types.TracingModeActive)
	for _, step := range []struct {
		in   *types.TracingConfig
		want types.TracingMode
	}{
		{nil, types.TracingModeActive}, {&types.TracingConfig{}, types.TracingModeActive},
		{&types.TracingConfig{Mode: types.TracingModePassThrough}, types.TracingModePassThrough},
		{&types.TracingConfig{Mode: types.TracingModeActive}, types.TracingModeActive},
	} {
		_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), TracingConfig: step.in})
		if err != nil {
			t.Fatal(err)
		}
		w.active("f")
		serves(step.want)
	}
	w.restart()
	serves(types.TracingModeActive)
	_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), TracingConfig: &types.TracingConfig{Mode: "Sometimes"}})
	wantFault(t, err, "ValidationException", "1 validation error detected: Value 'Sometimes' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]")
}
