package environment

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
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
	runtimeDir = "/var/runtime"
)

// runtimeVariables is the environment of the runtime: the page "Using Lambda
// environment variables", checked against what functions on AWS see. The
// defaults give way to the customer's variables, and those to the reserved
// ones.
func (e *Environment) runtimeVariables() []string {
	v := e.cfg.Version
	paths := e.box.Paths()
	xrayHost, xrayPort, _ := net.SplitHostPort(e.box.DaemonAddr())
	vars := map[string]string{
		"LANG":                     "en_US.UTF-8",
		"TZ":                       ":UTC",
		"PATH":                     withPaths("/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", paths),
		"LD_LIBRARY_PATH":          withPaths("/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib", paths),
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  e.box.DaemonAddr(),
	}
	if v.LogFormatJSON {
		vars["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
		vars["AWS_LAMBDA_LOG_LEVEL"] = cmp.Or(v.ApplicationLogLevel, "INFO")
	}
	for k, value := range v.Environment {
		if !strings.HasPrefix(k, "_") {
			vars[k] = value
		}
	}
	for k, value := range map[string]string{
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
		"AWS_LAMBDA_RUNTIME_API":          e.box.APIAddr(),
		"_AWS_XRAY_DAEMON_ADDRESS":        xrayHost,
		"_AWS_XRAY_DAEMON_PORT":           xrayPort,
		"LAMBDA_TASK_ROOT":                paths.Task,
		"LAMBDA_RUNTIME_DIR":              runtimeDir,
		"_HANDLER":                        v.Handler,
	} {
		vars[k] = value
	}
	// A custom runtime has no AWS_EXECUTION_ENV; not even the customer's.
	delete(vars, "AWS_EXECUTION_ENV")
	if e.managed() {
		vars["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + v.Runtime
		vars["_LAMBDA_TELEMETRY_LOG_FD"] = logFD
	}
	env := make([]string, 0, len(vars))
	for k, value := range vars {
		env = append(env, k+"="+value)
	}
	slices.Sort(env)
	return env
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

// withPaths puts the sandbox's directories in the place of /var/task and /opt,
// which differ on the process backend only.
func withPaths(list string, paths sandbox.Paths) string {
	if paths.Task == taskRoot && paths.Opt == optRoot {
		return list
	}
	parts := strings.Split(list, ":")
	for i, p := range parts {
		if rest, ok := strings.CutPrefix(p, taskRoot); ok {
			parts[i] = paths.Task + rest
		} else if rest, ok := strings.CutPrefix(p, optRoot); ok {
			parts[i] = paths.Opt + rest
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
// yyyy/mm/dd/[version] and 32 hexadecimal digits.
func logStream(now time.Time, version string) string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return now.UTC().Format("2006/01/02") + "/[" + version + "]" + hex.EncodeToString(id[:])
}

// disableExtensions is the file in /opt that switches extensions off. AWS's
// emulator has it, name and all.
const disableExtensions = "disable-extensions-jwigqn8j"

// findExtensions lists the external extensions by name: what lies directly in
// the directory extensions of the layers and is not itself a directory.
// Whether it can be executed is seen at its launch.
func findExtensions(optDir string) (names []string, disabled bool, err error) {
	if optDir == "" {
		return nil, false, nil
	}
	if _, err := os.Lstat(filepath.Join(optDir, disableExtensions)); err == nil {
		return nil, true, nil
	}
	entries, err := os.ReadDir(filepath.Join(optDir, "extensions"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries { // sorted by name
		if !entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, false, nil
}
