package environment

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

// Directories as AWS names them, inside.
const (
	taskRoot   = "/var/task"
	optRoot    = "/opt"
	langRoot   = "/var/lang"
	runtimeDir = "/var/runtime"
)

// runtimeVariables is the environment of the runtime: the page "Using Lambda
// environment variables", checked against what functions on AWS see. The
// defaults give way to those of the image, these to the customer's variables,
// and those to the reserved ones.
func (e *Environment) runtimeVariables() []string {
	v := e.cfg.Version
	vars := e.defaultVariables()
	if v.LogFormatJSON {
		vars["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
		vars["AWS_LAMBDA_LOG_LEVEL"] = cmp.Or(v.ApplicationLogLevel, "INFO")
	}
	for k, value := range v.Environment {
		if !strings.HasPrefix(k, "_") {
			vars[k] = value
		}
	}
	paths := e.box.Paths()
	if wrapper := vars[wrapperVariable]; wrapper != "" {
		vars[wrapperVariable] = withPaths(wrapper, paths)
	}
	maps.Copy(vars, e.reservedVariables())
	// A custom runtime has no AWS_EXECUTION_ENV; not even the customer's.
	delete(vars, "AWS_EXECUTION_ENV")
	switch {
	case v.Image != nil:
		vars["AWS_EXECUTION_ENV"] = "AWS_Lambda_Image"
		if v.Handler == "" {
			delete(vars, "_HANDLER") // the image's own client knows
		}
	case e.managed():
		vars["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + v.Runtime
		vars["_LAMBDA_TELEMETRY_LOG_FD"] = logFD
		if paths.Opt != optRoot {
			vars["_FIRN_OPT"] = paths.Opt // for the start command (package runtimes)
		}
	}
	env := make([]string, 0, len(vars))
	for k, value := range vars {
		env = append(env, k+"="+value)
	}
	slices.Sort(env)
	return env
}

// wrapperVariable names the script that managed runtimes are started by.
const wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"

// imagePath is PATH for images that have none, as container engines set it.
const imagePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// defaultVariables are those that the customer may set otherwise. An image
// brings language and search paths along.
func (e *Environment) defaultVariables() map[string]string {
	paths := e.box.Paths()
	vars := map[string]string{
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  e.box.DaemonAddr(),
	}
	if img := e.cfg.Version.Image; img != nil {
		vars["PATH"] = imagePath
		for _, kv := range img.Env {
			if k, value, found := strings.Cut(kv, "="); found && k != "" {
				vars[k] = value
			}
		}
		return vars
	}
	vars["LANG"] = "en_US.UTF-8"
	vars["TZ"] = ":UTC"
	programs, libraries := "/var/lang/bin:", "/var/lang/lib:"
	if e.cfg.Version.Runtime == "provided.al2" { // has no language, and alone does without its place: recorded
		programs, libraries = "", ""
	}
	vars["PATH"] = withPaths(programs+"/usr/local/bin:/usr/bin/:/bin:/opt/bin", paths)
	vars["LD_LIBRARY_PATH"] = withPaths(
		libraries+"/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib", paths)
	return vars
}

// reservedVariables are those that nobody sets but the platform.
func (e *Environment) reservedVariables() map[string]string {
	v := e.cfg.Version
	paths := e.box.Paths()
	xrayHost, xrayPort, _ := net.SplitHostPort(e.box.DaemonAddr())
	vars := map[string]string{
		"AWS_ACCESS_KEY_ID":               e.cfg.Credentials.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY":           e.cfg.Credentials.SecretAccessKey,
		"AWS_SESSION_TOKEN":               e.cfg.Credentials.SessionToken,
		"AWS_REGION":                      v.Region,
		"AWS_DEFAULT_REGION":              v.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        v.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     v.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(v.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  e.cfg.InitializationType,
		"AWS_LAMBDA_LOG_GROUP_NAME":       v.LogGroup,
		"AWS_LAMBDA_LOG_STREAM_NAME":      e.source.LogStream,
		"AWS_LAMBDA_METADATA_API":         e.box.APIAddr(),
		"AWS_LAMBDA_METADATA_TOKEN":       e.metadataToken,
		"AWS_LAMBDA_RUNTIME_API":          e.box.APIAddr(),
		"_AWS_XRAY_DAEMON_ADDRESS":        xrayHost,
		"_AWS_XRAY_DAEMON_PORT":           xrayPort,
		"LAMBDA_TASK_ROOT":                paths.Task,
		"LAMBDA_RUNTIME_DIR":              runtimeDir,
		"_HANDLER":                        v.Handler,
	}
	if e.managed() {
		vars["LAMBDA_RUNTIME_DIR"] = paths.Runtime
	}
	if v.Image != nil {
		for _, kv := range v.Image.Env { // where the image itself has its code and client
			if k, value, _ := strings.Cut(kv, "="); k == "LAMBDA_TASK_ROOT" || k == "LAMBDA_RUNTIME_DIR" {
				vars[k] = value
			}
		}
	}
	return vars
}

// logFD is the descriptor of the framed log.
const logFD = "3"

// Managed says that the runtime of v is one of AWS's languages, whose clients
// frame their log, and not one that the function brought along in its archive
// or image.
func Managed(v *firn.FunctionVersion) bool {
	return v.Image == nil && !strings.HasPrefix(v.Runtime, "provided")
}

func (e *Environment) managed() bool { return Managed(e.cfg.Version) }

// withPaths puts the sandbox's directories in the place of /var/task, /opt,
// /var/lang and /var/runtime, which differ on the process backend only.
func withPaths(list string, paths sandbox.Paths) string {
	if paths.Task == taskRoot && paths.Opt == optRoot {
		return list
	}
	parts := strings.Split(list, ":")
	for i, p := range parts {
		for _, d := range []struct{ from, to string }{
			{taskRoot, paths.Task}, {optRoot, paths.Opt}, {langRoot, paths.Lang}, {runtimeDir, paths.Runtime},
		} {
			if rest, ok := strings.CutPrefix(p, d.from); ok && (rest == "" || rest[0] == '/') {
				parts[i] = d.to + rest
				break
			}
		}
	}
	return strings.Join(parts, ":")
}

// hiddenFromExtensions lists what extensions do not get ("Environment
// variables" of the page on the Extensions API), besides every name that
// begins with an underscore.
func hiddenFromExtensions(name string) bool {
	switch name {
	case "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
		"AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT":
		return true
	}
	return strings.HasPrefix(name, "_")
}

func (e *Environment) extensionVariables() []string {
	return slices.DeleteFunc(e.runtimeVariables(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return hiddenFromExtensions(name)
	})
}

// logStream makes the name of the environment's log stream:
// yyyy/mm/dd/[version] and 32 hexadecimal digits. In a log group of the
// customer's choice, which functions may share, the function's name stands
// before the version (recorded from AWS).
func logStream(now time.Time, v *firn.FunctionVersion) string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	name := ""
	if v.LogGroup != "" && v.LogGroup != firn.DefaultLogGroup(v.Name) {
		name = v.Name
	}
	return now.UTC().Format("2006/01/02") + "/" + name + "[" + v.Version + "]" + hex.EncodeToString(id[:])
}
