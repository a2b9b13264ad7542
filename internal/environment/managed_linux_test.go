package environment

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux"
	"github.com/firn-run/firn/internal/telemetry"
)

// These tests run the official clients in the isolating sandbox, from the
// runtimes that .ci/install-runtimes has put into a cache directory.

// managedRuntime finds one of the named runtimes, or skips.
func managedRuntime(t *testing.T, names ...string) (name, dir string) {
	t.Helper()
	cache := os.Getenv("FIRN_RUNTIMES")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "firn/runtimes")
	}
	if _, err := os.Stat(cache); err != nil {
		require.Feature(t, "runtimes", false, ".ci/install-runtimes has not run")
	}
	store, err := runtimes.Open(cache, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range names {
		dir, _, err := store.Runtime(t.Context(), name)
		if err == nil {
			return name, dir
		}
	}
	feature := "runtimes"
	if !slices.Contains([]string{"python3.11", "nodejs22.x", "java17"}, names[0]) {
		feature = "runtime " + names[0] // not among those that .ci/install-runtimes brings
	}
	require.Feature(t, feature, false, "none of "+strings.Join(names, ", ")+" is in "+cache)
	return "", ""
}

// isolating makes a linux backend of the test's own.
func isolating(t *testing.T) sandbox.Backend {
	t.Helper()
	b, err := linux.New(t.Context(), linux.Config{
		Name: "managed", Network: sandbox.NetworkNone, PoolSize: 1, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		require.Feature(t, "runtimes", false, "the linux sandbox does not work here (has make been run?): "+err.Error())
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// managed starts functions of one runtime.
type managed struct {
	t       *testing.T
	backend sandbox.Backend
	name    string
	dir     string
	task    map[string]string // files by name; those with an interpreter line can be executed
	opt     map[string]string
}

func (m *managed) start(handler string, vars map[string]string, change ...func(*Config)) (*world, *fullLines) {
	m.t.Helper()
	sink := &fullLines{}
	f := fixture{
		vars: vars,
		prepare: func(task, opt string) {
			putFiles(m.t, task, m.task)
			putFiles(m.t, opt, m.opt)
		},
		config: func(c *Config) {
			c.Version.Runtime, c.Version.Handler, c.Version.MemoryMB = m.name, handler, 512
			c.RuntimeDir, c.Sink = m.dir, sink
			for _, edit := range change {
				edit(c)
			}
		},
	}
	w := startOn(m.t, m.backend, f)
	m.t.Cleanup(func() {
		if m.t.Failed() {
			for _, line := range sink.all() {
				m.t.Logf("%s %q", line.Level, line.Text)
			}
		}
	})
	return w, sink
}

func putFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// all returns what was said so far.
func (f *fullLines) all() []telemetry.Line {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

// said finds a line that contains text.
func (f *fullLines) said(text string) (telemetry.Line, bool) {
	all := f.all()
	i := slices.IndexFunc(all, func(l telemetry.Line) bool { return strings.Contains(string(l.Text), text) })
	if i < 0 {
		return telemetry.Line{}, false
	}
	return all[i], true
}

// mustSay fails the test unless a line contains text; it returns the line.
func (f *fullLines) mustSay(t *testing.T, text string) telemetry.Line {
	t.Helper()
	line, ok := f.said(text)
	if !ok {
		t.Errorf("nothing says %q", text)
	}
	return line
}

// send invokes with any event and decodes the answer.
func (w *world) send(event any) (answer map[string]any, out *Outcome) {
	w.t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	out, err = w.Invoke(ctx, &Invocation{RequestID: uuid.NewString(), ARN: w.Version().ARN, Payload: payload})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(out.Payload, &answer); err != nil {
		w.t.Fatalf("%s: %v", out.Payload, err)
	}
	return answer, out
}

// again waits until the environment is ready, and sends.
func (w *world) again(event any) (map[string]any, *Outcome) {
	w.t.Helper()
	w.waitReady()
	return w.send(event)
}

// want compares parts of an answer.
func want(t *testing.T, answer map[string]any, parts map[string]any) {
	t.Helper()
	for name, value := range parts {
		if fmt.Sprint(answer[name]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v", name, answer[name], value)
		}
	}
}

// extension is an external extension that says when it is called.
const extension = `#!/bin/bash
exec 3<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}
body='{"events":["INVOKE"]}'
printf 'POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nLambda-Extension-Name: beside\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
while IFS=$'\r' read -r -u 3 line rest && [ -n "$line" ]; do
  case ${line,,} in
  lambda-extension-identifier:*) id=${line#*: } ;;
  content-length:*) length=${line#*: } ;;
  esac
done
read -r -u 3 -N "$length" body
while true; do
  printf 'GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: %s\r\n\r\n' "$id" >&3
  while IFS=$'\r' read -r -u 3 line rest && [ -n "$line" ]; do
    case ${line,,} in content-length:*) length=${line#*: } ;; esac
  done || exit 0
  read -r -u 3 -N "$length" body
  echo "beside: $body"
done
`

const pythonApp = `
import json, logging, os, sys, time
import layered
log = logging.getLogger()
log.setLevel(logging.INFO)
count = 0

def handler(event, context):
    global count
    count += 1
    do = event.get("do")
    if do == "fail":
        raise ValueError("no such thing")
    if do == "log":
        print("printed")
        log.warning("first\nsecond")
    if do == "env":
        return dict(os.environ)
    if do == "path":
        return {"path": sys.path}
    if do == "sdk":
        import boto3
        return {"sdk": boto3.__file__}
    return {"got": event, "count": count, "layer": layered.value, "request": context.aws_request_id,
            "remaining": context.get_remaining_time_in_millis() > 0, "memory": context.memory_limit_in_mb}
`

func pythonFunction(t *testing.T) *managed {
	name, dir := managedRuntime(t, "python3.11", "python3.12", "python3.13", "python3.10")
	version := strings.TrimPrefix(name, "python")
	return &managed{t: t, backend: isolating(t), name: name, dir: dir,
		task: map[string]string{
			"app.py": pythonApp, "syntax.py": "def handler(:\n", "raises.py": "raise KeyError('at import')\n",
			"exits.py": "import sys\nsys.exit(3)\n", "imports.py": "import not_there\n",
			"wrap": wrapVerbose, "plain": "echo not executable\n",
		},
		opt: map[string]string{
			"python/layered.py": "value = 'of the layer'\n",
			"python/lib/python" + version + "/site-packages/deep.py":  "value = 'deep'\n",
			"python/lib/python" + version + "/site-packages/more.pth": "/opt/elsewhere\n",
			"elsewhere/pathed.py": "", "wrap": wrapVerbose, "extensions/beside": extension,
			"retarget":     "#!/bin/bash\nexport _HANDLER=app.handler GREETING=changed\nexport AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001\nexec \"$@\"\n",
			"elsewhereapi": "#!/bin/bash\nexport AWS_LAMBDA_RUNTIME_API=127.0.0.1:1\nexec \"$@\"\n",
		},
	}
}

// wrapVerbose puts an option behind the interpreter.
const wrapVerbose = "#!/bin/bash\nargs=(\"$@\")\nexec \"${args[0]}\" -v \"${args[@]:1}\"\n"

func TestPython(t *testing.T) {
	m := pythonFunction(t)
	w, sink := m.start("app.handler", nil)
	answer, _ := w.send(map[string]any{"a": 1})
	want(t, answer, map[string]any{"count": 1, "layer": "of the layer", "remaining": true, "memory": 512, "got": map[string]any{"a": 1}})
	answer, out := w.again(map[string]any{"do": "fail"})
	want(t, answer, map[string]any{"errorType": "ValueError", "errorMessage": "no such thing"})
	if out.FunctionError != "Unhandled" || answer["stackTrace"] == nil {
		t.Errorf("%q %s", out.FunctionError, out.Payload)
	}
	answer, _ = w.again(map[string]any{"do": "log"})
	want(t, answer, map[string]any{"count": 3})
	w.waitReady()
	if line := sink.mustSay(t, "first\nsecond"); !line.Framed {
		t.Errorf("%+v", line)
	}
	if line := sink.mustSay(t, "printed"); line.Framed {
		t.Errorf("%+v", line)
	}
	sink.mustSay(t, "[ERROR] ValueError: no such thing")
	sink.mustSay(t, `beside: {"eventType":"INVOKE"`)
	pythonPaths(t, w, m)
}

func pythonPaths(t *testing.T, w *world, m *managed) {
	answer, _ := w.send(map[string]any{"do": "path"})
	version := strings.TrimPrefix(m.name, "python")
	var path []string
	for _, p := range answer["path"].([]any) {
		path = append(path, p.(string))
	}
	begin := []string{"/var/task", "/opt/python/lib/python" + version + "/site-packages", "/opt/python", "/var/runtime"}
	if len(path) < 4 || !slices.Equal(path[:4], begin) || !slices.Contains(path, "/opt/elsewhere") ||
		!slices.Contains(path, "/var/lang/lib/python"+version) {
		t.Errorf("sys.path %q", path)
	}
	env, _ := w.again(map[string]any{"do": "env"})
	want(t, env, map[string]any{
		"AWS_EXECUTION_ENV": "AWS_Lambda_" + m.name, "PYTHONPATH": "/var/runtime", "LAMBDA_RUNTIME_DIR": "/var/runtime",
		"LAMBDA_TASK_ROOT": "/var/task", "TZ": ":UTC", "LANG": "en_US.UTF-8", "PWD": "/var/task", "SHLVL": 0, "_HANDLER": "app.handler",
	})
	if _, there := env["_LAMBDA_TELEMETRY_LOG_FD"]; there {
		t.Error("the client has left the descriptor's variable")
	}
	sdk, _ := w.again(map[string]any{"do": "sdk"})
	want(t, sdk, map[string]any{"sdk": "/var/runtime/boto3/__init__.py"})
}

// A managed runtime works without isolation too, with layers and a wrapper in
// other places.
func TestManagedInProcessSandbox(t *testing.T) {
	m := pythonFunction(t)
	m.backend = backend(t)
	w, sink := m.start("app.handler", map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"})
	answer, _ := w.send(map[string]any{"a": 1})
	want(t, answer, map[string]any{"count": 1, "layer": "of the layer"})
	sink.mustSay(t, "import 'layered'")
	env, _ := w.again(map[string]any{"do": "env"})
	want(t, env, map[string]any{"PYTHONPATH": m.dir + "/var/runtime", "LAMBDA_RUNTIME_DIR": m.dir + "/var/runtime"})
	if _, there := env["_FIRN_OPT"]; there {
		t.Error("firn's own variable is left")
	}
}

// With JSON logging the client writes objects and tells levels.
func TestPythonJSONLog(t *testing.T) {
	m := pythonFunction(t)
	w, sink := m.start("app.handler", nil, func(c *Config) { c.Version.LogFormatJSON, c.Version.ApplicationLogLevel = true, "WARN" })
	w.send(map[string]any{"do": "log"})
	w.waitReady()
	line := sink.mustSay(t, `"message": "first\nsecond"`)
	if !line.Framed || line.Level != "WARN" || !json.Valid(line.Text) {
		t.Errorf("%+v %s", line, line.Text)
	}
}

// What goes wrong before the first event has AWS's error types, which the
// client gives.
func TestPythonInitErrors(t *testing.T) {
	m := pythonFunction(t)
	for handler, expected := range map[string]struct{ errorType, message string }{
		"missing.handler": {"Runtime.ImportModuleError", "Unable to import module 'missing': No module named 'missing'"},
		"imports.handler": {"Runtime.ImportModuleError", "Unable to import module 'imports': No module named 'not_there'"},
		"syntax.handler":  {"Runtime.UserCodeSyntaxError", "Syntax error in module 'syntax'"},
		"app.nothing":     {"Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'app'"},
		"nodot":           {"Runtime.MalformedHandlerName", "Bad handler 'nodot'"},
		"raises.handler":  {"KeyError", "'at import'"},
		"exits.handler":   {"Runtime.ExitError", "Runtime exited with error: exit status 3"},
	} {
		t.Run(handler, func(t *testing.T) {
			w, _ := m.start(handler, nil)
			answer, out := w.send(map[string]any{})
			if answer["errorType"] != expected.errorType || !strings.Contains(fmt.Sprint(answer["errorMessage"]), expected.message) ||
				out.FunctionError != "Unhandled" {
				t.Errorf("%q %s", out.FunctionError, out.Payload)
			}
		})
	}
}

func TestWrapper(t *testing.T) {
	m := pythonFunction(t)
	for name, test := range map[string]struct {
		handler, wrapper string
		answer           map[string]any
		says             string
	}{
		"of a layer":          {"app.handler", "/opt/wrap", map[string]any{"count": 1}, "import 'layered'"},
		"of the function":     {"app.handler", "/var/task/wrap", map[string]any{"count": 1}, "import 'layered'"},
		"changes the handler": {"missing.handler", "/opt/retarget", map[string]any{"count": 1}, ""},
		"missing":             {"app.handler", "/opt/none", map[string]any{"errorType": "Runtime.ExitError"}, "/opt/none"},
		"not executable":      {"app.handler", "/var/task/plain", map[string]any{"errorType": "Runtime.ExitError"}, "/var/task/plain"},
		"another API":         {"app.handler", "/opt/elsewhereapi", map[string]any{"errorType": "Runtime.ExitError"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, sink := m.start(test.handler, map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": test.wrapper})
			answer, out := w.send(map[string]any{})
			want(t, answer, test.answer)
			if test.says != "" {
				sink.mustSay(t, test.says)
			}
			for wrapper, status := range map[string]string{"/opt/none": "exit status 127", "/var/task/plain": "exit status 126"} {
				if test.wrapper == wrapper && !strings.Contains(string(out.Payload), status) {
					t.Errorf("%s, want %s", out.Payload, status)
				}
			}
		})
	}
}

// A runtime that the function brings along is not started by a wrapper.
func TestWrapperOfProvided(t *testing.T) {
	f := fixture{vars: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/opt/none"}}
	if out := start(t, f).invoke(command{}); out.FunctionError != "" {
		t.Errorf("%s", out.Payload)
	}
}

const nodeModule = `
import layered from 'layered';
import { readFileSync } from 'node:fs';
let count = 0;
export const handler = async (event, context) => {
  count++;
  if (event.do === 'fail') throw new TypeError('no such thing');
  if (event.do === 'log') { console.log('first\nsecond'); console.error('bad'); }
  if (event.do === 'env') return process.env;
  if (event.do === 'sdk') return { sdk: typeof (await import('@aws-sdk/client-s3')).S3Client };
  if (event.do === 'fetch') return fetch('x');
  return { got: event, count, layer: layered, request: context.awsRequestId, memory: context.memoryLimitInMB,
           args: process.execArgv, hooked: globalThis.hooked };
};
`

const nodeCommon = `
const layered = require('layered');
exports.handler = (event, context, callback) => callback(null, { layer: layered, version: process.version,
  sdk: typeof require('@aws-sdk/client-s3').S3Client, task: require('intask') });
exports.old = async () => require('aws-sdk');
exports.dynamic = async () => ({ layer: (await import('layered')).default });
exports.stream = globalThis.awslambda?.streamifyResponse(async (event, stream) => {
  stream.setContentType('text/plain');
  stream.write('{"part":');
  stream.end('"two"}');
});
`

func nodeFunction(t *testing.T, names ...string) *managed {
	name, dir := managedRuntime(t, names...)
	major := strings.TrimSuffix(strings.TrimPrefix(name, "nodejs"), ".x")
	layer := func(value string) map[string]string {
		return map[string]string{
			"nodejs/node_modules/layered/package.json":                   `{"name":"layered","main":"m.js"}`,
			"nodejs/node_modules/layered/m.js":                           "module.exports = 'general';",
			"nodejs/node" + major + "/node_modules/layered/package.json": `{"name":"layered","main":"m.js"}`,
			"nodejs/node" + major + "/node_modules/layered/m.js":         "module.exports = '" + value + "';",
			"extensions/beside":                                          extension,
		}
	}
	return &managed{t: t, backend: isolating(t), name: name, dir: dir, opt: layer("of the layer"),
		task: map[string]string{
			"index.mjs": nodeModule, "old.js": nodeCommon, "intask.js": "module.exports = 'in task';",
			"syntax.js": "exports.handler = (;\n", "imports.mjs": "import 'not-there';\nexport const handler = 1;\n",
			"requires.js": "require('not-there');\n", "throws.js": "throw new RangeError('at import');\n",
			"hook.cjs": "globalThis.hooked = 'yes';\n",
		},
	}
}

func TestNode(t *testing.T) {
	for _, name := range []string{"nodejs22.x", "nodejs20.x", "nodejs24.x"} {
		t.Run(name, func(t *testing.T) { testNode(t, nodeFunction(t, name)) })
	}
}

func testNode(t *testing.T, m *managed) {
	w, sink := m.start("index.handler", nil)
	answer, _ := w.send(map[string]any{"a": 1})
	want(t, answer, map[string]any{"count": 1, "layer": "of the layer", "memory": 512, "got": map[string]any{"a": 1}})
	answer, out := w.again(map[string]any{"do": "fail"})
	want(t, answer, map[string]any{"errorType": "TypeError", "errorMessage": "no such thing"})
	if out.FunctionError != "Unhandled" || answer["trace"] == nil {
		t.Errorf("%q %s", out.FunctionError, out.Payload)
	}
	answer, _ = w.again(map[string]any{"do": "log"})
	want(t, answer, map[string]any{"count": 3})
	env, _ := w.again(map[string]any{"do": "env"})
	major := strings.TrimSuffix(strings.TrimPrefix(m.name, "nodejs"), ".x")
	want(t, env, map[string]any{
		"AWS_EXECUTION_ENV": "AWS_Lambda_" + m.name,
		"NODE_PATH":         "/opt/nodejs/node" + major + "/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task",
	})
	answer, _ = w.again(map[string]any{"do": "sdk"})
	want(t, answer, map[string]any{"sdk": "function"})
	w.waitReady()
	if line := sink.mustSay(t, "first\nsecond"); !line.Framed || line.Level != "INFO" {
		t.Errorf("%+v", line)
	}
	if line := sink.mustSay(t, "ERROR\tbad"); line.Level != "ERROR" {
		t.Errorf("%+v", line)
	}
	sink.mustSay(t, `beside: {"eventType":"INVOKE"`)

	if m.name != "nodejs24.x" { // which has no callbacks any more
		w, _ = m.start("old.handler", nil)
		answer, _ = w.send(map[string]any{})
		want(t, answer, map[string]any{"layer": "of the layer", "sdk": "function", "task": "in task"})
	}
	w, _ = m.start("old.dynamic", nil)
	answer, _ = w.send(map[string]any{})
	want(t, answer, map[string]any{"layer": "of the layer"})
	w, _ = m.start("old.old", nil)
	answer, _ = w.send(map[string]any{})
	if !strings.Contains(fmt.Sprint(answer["errorMessage"]), "Cannot find module 'aws-sdk'") {
		t.Errorf("require of the old SDK: %v", answer)
	}
	w, _ = m.start("old.stream", nil)
	answer, _ = w.send(map[string]any{})
	want(t, answer, map[string]any{"part": "two"})
	w, _ = m.start("index.handler", map[string]string{"NODE_OPTIONS": "--require /var/task/hook.cjs"})
	answer, _ = w.send(map[string]any{})
	want(t, answer, map[string]any{"hooked": "yes"})
	if m.name == "nodejs24.x" {
		return // has no such option
	}
	w, _ = m.start("index.handler", map[string]string{"NODE_OPTIONS": "--no-experimental-fetch"})
	answer, _ = w.send(map[string]any{"do": "fetch"})
	want(t, answer, map[string]any{"errorType": "ReferenceError"})
}

func TestNodeInitErrors(t *testing.T) {
	m := nodeFunction(t, "nodejs22.x", "nodejs20.x")
	for handler, expected := range map[string]struct{ errorType, message string }{
		"missing.handler":  {"Runtime.ImportModuleError", "Cannot find module 'missing'"},
		"requires.handler": {"Runtime.ImportModuleError", "Cannot find module 'not-there'"},
		"imports.handler":  {"Error", "Cannot find package 'not-there'"},
		"syntax.handler":   {"Runtime.UserCodeSyntaxError", "SyntaxError"},
		"index.nothing":    {"Runtime.HandlerNotFound", "index.nothing is undefined or not exported"},
		"nodot":            {"Runtime.MalformedHandlerName", "Bad handler"},
		"throws.handler":   {"RangeError", "at import"},
	} {
		t.Run(handler, func(t *testing.T) {
			w, _ := m.start(handler, nil)
			answer, out := w.send(map[string]any{})
			if answer["errorType"] != expected.errorType || !strings.Contains(fmt.Sprint(answer["errorMessage"]), expected.message) {
				t.Errorf("%q %s", out.FunctionError, out.Payload)
			}
		})
	}
}

const javaApp = `
package example;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;
import java.util.TreeMap;
public class App implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    static int count = 0;
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if ("fail".equals(event.get("do"))) throw new IllegalStateException("no such thing");
        if ("log".equals(event.get("do"))) { System.out.println("printed"); context.getLogger().log("first\nsecond"); }
        Map<String, Object> answer = new TreeMap<>();
        answer.put("count", ++count);
        answer.put("layer", layered.Layer.VALUE);
        answer.put("memory", context.getMemoryLimitInMB());
        answer.put("heap", Runtime.getRuntime().maxMemory() >> 20);
        answer.put("got", event);
        return answer;
    }
}
`

// javaFunction compiles with the runtime's own compiler.
func javaFunction(t *testing.T) *managed {
	name, dir := managedRuntime(t, "java17", "java21", "java25", "java11")
	work := t.TempDir()
	putFiles(t, work, map[string]string{
		"example/App.java": javaApp, "layered/Layer.java": "package layered; public class Layer { public static final String VALUE = String.valueOf(\"of the layer\"); }",
	})
	for _, argv := range [][]string{
		{"bin/javac", "-cp", dir + "/var/runtime/lib/*", "-d", "out", "example/App.java", "layered/Layer.java"},
		{"bin/jar", "--create", "--file", "layer.jar", "-C", "out", "layered"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "var/lang", argv[0]), argv[1:]...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			require.Feature(t, "runtimes", false, fmt.Sprintf("%s has no compiler: %v %s", name, err, out))
		}
	}
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join(work, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return &managed{t: t, backend: isolating(t), name: name, dir: dir,
		task: map[string]string{"example/App.class": read("out/example/App.class")},
		opt:  map[string]string{"java/lib/layer.jar": read("layer.jar"), "extensions/beside": extension},
	}
}

func TestJava(t *testing.T) {
	m := javaFunction(t)
	w, sink := m.start("example.App::handleRequest", map[string]string{"JAVA_TOOL_OPTIONS": "-Dmine=1"})
	answer, _ := w.send(map[string]any{"a": "1"})
	want(t, answer, map[string]any{"count": 1, "layer": "of the layer", "memory": 512, "got": map[string]any{"a": "1"}})
	if heap, _ := answer["heap"].(float64); heap < 300 || heap > 512 {
		t.Errorf("heap of %v MB in a function of 512 MB", answer["heap"])
	}
	answer, out := w.again(map[string]any{"do": "fail"})
	want(t, answer, map[string]any{"errorType": "java.lang.IllegalStateException", "errorMessage": "no such thing"})
	if out.FunctionError != "Unhandled" || answer["stackTrace"] == nil {
		t.Errorf("%q %s", out.FunctionError, out.Payload)
	}
	answer, _ = w.again(map[string]any{"do": "log"})
	want(t, answer, map[string]any{"count": 2})
	w.waitReady()
	sink.mustSay(t, "Picked up JAVA_TOOL_OPTIONS: -Dmine=1")
	if line := sink.mustSay(t, "first\nsecond"); !line.Framed {
		t.Errorf("%+v", line)
	}
	sink.mustSay(t, "printed")
	sink.mustSay(t, `beside: {"eventType":"INVOKE"`)
	for _, line := range sink.all() {
		if strings.Contains(string(line.Text), "WARNING") {
			t.Errorf("the runtime warns: %s", line.Text)
		}
	}
	w, _ = m.start("example.Missing::handleRequest", nil)
	answer, _ = w.send(map[string]any{})
	want(t, answer, map[string]any{"errorType": "java.lang.ClassNotFoundException", "errorMessage": "Class not found: example.Missing"})
}
