package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// What a process finds around it: section 7 of the specification.

func TestProcessEnvironment(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	show := []step{{Name: "env", Show: "env"}, {Name: "process", Show: "process"}, {Name: "limits", Show: "limits"}}
	n.probe("env", probed{memory: 512, plan: plan{
		"bootstrap": {Init: show}, "ext.sh": {Init: show, Register: `{}`},
	}, variables: map[string]string{"MINE": "a=b c", "TZ": "Europe/Zurich", "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR", "PATH": "/opt/mine"}})
	n.probe("plain", probed{plan: plan{"bootstrap": {Init: show}}})
	all := n.take("env")
	t.Run("runtime", func(t *testing.T) {
		compareEnv(t, all, "bootstrap", runtimeEnv("env", "512", map[string]string{
			"MINE": "a=b c", "TZ": "Europe/Zurich", "AWS_XRAY_CONTEXT_MISSING": "IGNORE_ERROR", "PATH": "/opt/mine",
		}))
	})
	t.Run("extension", func(t *testing.T) {
		want := runtimeEnv("env", "512", map[string]string{"MINE": "a=b c", "TZ": "Europe/Zurich", "PATH": "/opt/mine"})
		for _, hidden := range []string{
			"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS",
			"LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT", "_HANDLER",
		} {
			delete(want, hidden)
		}
		compareEnv(t, all, "ext.sh", want)
	})
	t.Run("defaults", func(t *testing.T) { compareEnv(t, n.take("plain"), "bootstrap", runtimeEnv("plain", "128", nil)) })
	for party, want := range map[string]string{
		"bootstrap": `^dir=/var/task uid=\d+ gid=\d+ args=\["/var/task/bootstrap"\]$`,
		"ext.sh":    `^dir=/ uid=\d+ gid=\d+ args=\["/opt/extensions/ext.sh"\]$`,
	} {
		match(t, "process of "+party, want, of(all, party, "process")[0].Body)
		limits := strings.Join(strings.Fields(of(all, party, "limits")[0].Body), " ")
		for _, want := range []string{
			"Max open files 1024 1024 files", "Max locked memory 65536 65536 bytes", "Max stack size 8388608 " + hardStack(t) + " bytes",
			"Max core file size ", "Max processes ", "Max cpu time unlimited", "Max file size unlimited", "Max address space unlimited",
		} {
			if !strings.Contains(limits, want) {
				t.Errorf("limits of %s lack %q: %s", party, want, limits)
			}
		}
	}
	n.stop()
}

// hardStack is the host's hard limit of stacks, which environments keep: it is
// none by default, as on AWS.
func hardStack(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(b), "Max stack size")
	if fields := strings.Fields(line); len(fields) > 1 {
		return fields[1]
	}
	t.Fatalf("no limit of stacks in %s", b)
	return ""
}

// runtimeEnv is the whole environment of a runtime, as patterns.
func runtimeEnv(name, memory string, own map[string]string) map[string]string {
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": `^A[A-Z0-9]{19}$`, "AWS_SECRET_ACCESS_KEY": `^\S{40}$`, "AWS_SESSION_TOKEN": `^\S{20,}$`,
		"AWS_REGION": "^us-east-1$", "AWS_DEFAULT_REGION": "^us-east-1$",
		"AWS_LAMBDA_FUNCTION_NAME": "^" + name + "$", "AWS_LAMBDA_FUNCTION_VERSION": `^\$LATEST$`, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "^" + memory + "$",
		"AWS_LAMBDA_INITIALIZATION_TYPE": "^on-demand$", "AWS_LAMBDA_RUNTIME_API": `^127\.0\.0\.1:9001$`,
		"AWS_LAMBDA_METADATA_API": `^127\.0\.0\.1:9001$`, "AWS_LAMBDA_METADATA_TOKEN": `^[0-9a-f-]{36}$`,
		"AWS_LAMBDA_LOG_GROUP_NAME": "^/aws/lambda/" + name + "$", "AWS_LAMBDA_LOG_STREAM_NAME": `^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`,
		"AWS_XRAY_CONTEXT_MISSING": "^LOG_ERROR$", "AWS_XRAY_DAEMON_ADDRESS": `^169\.254\.\d+\.\d+:2000$`,
		"_AWS_XRAY_DAEMON_ADDRESS": `^169\.254\.\d+\.\d+$`, "_AWS_XRAY_DAEMON_PORT": "^2000$",
		"LAMBDA_TASK_ROOT": "^/var/task$", "LAMBDA_RUNTIME_DIR": "^/var/runtime$", "_HANDLER": "^plain$",
		"LANG": `^en_US\.UTF-8$`, "TZ": "^:UTC$", "PATH": "^/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin$",
		"LD_LIBRARY_PATH": "^/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib$",
	}
	for key, value := range own {
		env[key] = "^" + value + "$"
	}
	return env
}

// compareEnv demands the variables, all of them and no others.
func compareEnv(t *testing.T, all []seen, party string, want map[string]string) {
	t.Helper()
	got := of(all, party, "env")
	if len(got) == 0 {
		t.Fatalf("%s does not show its environment", party)
	}
	var names []string
	for line := range strings.SplitSeq(got[0].Body, "\n") {
		name, value, _ := strings.Cut(line, "=")
		names = append(names, name)
		pattern, ok := want[name]
		if !ok {
			t.Errorf("%s has %s", party, line)
			continue
		}
		match(t, party+"'s "+name, pattern, value)
	}
	for name := range want {
		if !slices.Contains(names, name) {
			t.Errorf("%s lacks %s", party, name)
		}
	}
}
