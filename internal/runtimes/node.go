package runtimes

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Embedded files of Node.js's runtimes.
var (
	//go:embed files/node.sh
	nodeScript string
	//go:embed files/node.mjs
	nodeMain []byte
	//go:embed files/node-path.mjs
	nodePath []byte
)

func nodeSteps() []step {
	return []step{
		{"looking for the interpreter", (*build).findNode},
		{"copying the interpreter", (*build).copyNode},
		{"fetching and compiling the runtime interface client", (*build).fetchNodeClient},
		{"fetching the AWS SDK", (*build).fetchNodeSDK},
		{"trying it", (*build).tryNode},
	}
}

// nodeFacts is the interpreter that was found.
type nodeFacts struct {
	program string
	// headers is the folder with include/node, for the client's native part;
	// "" lets node-gyp fetch them.
	headers string
}

// findNode takes the host's Node.js when it is of the right major version,
// else the one that the npm registry has.
func (b *build) findNode() error {
	if err := need("to install packages", "npm", "node"); err != nil {
		return err
	}
	candidates := []string{b.Interpreter}
	if b.Interpreter == "" {
		candidates = []string{"node", "/usr/bin/node", "/usr/local/bin/node"}
		home, _ := os.UserHomeDir()
		found, _ := filepath.Glob(filepath.Join(home, ".nvm/versions/node/v"+b.Version+".*/bin/node"))
		slices.SortFunc(found, func(a, b string) int { return compareVersions(b, a) })
		candidates = append(candidates, found...)
	}
	for _, name := range candidates {
		path, err := exec.LookPath(name)
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err == nil {
			err = b.adoptNode(path, "of the host")
		}
		if err == nil {
			return nil
		}
		if b.Interpreter != "" {
			return err
		}
	}
	return b.fetchNode()
}

// adoptNode takes the program if its major version is right.
func (b *build) adoptNode(program, origin string) error {
	out, err := b.run(command{argv: []string{program, "--version"}})
	if err != nil {
		return err
	}
	version := strings.TrimSpace(out)
	if !strings.HasPrefix(version, "v"+b.Version+".") {
		return fmt.Errorf("%s is Node.js %s", program, version)
	}
	b.node.program = program
	prefix := filepath.Dir(filepath.Dir(program))
	if _, err := os.Stat(filepath.Join(prefix, "include/node/node_api.h")); err == nil {
		b.node.headers = prefix
	}
	b.m.Interpreter = "Node.js " + strings.TrimPrefix(version, "v") + " " + origin
	return nil
}

// fetchNode brings the interpreter as the package that the registry's package
// "node" consists of.
func (b *build) fetchNode() error {
	name := "node-linux-" + nodeArchitecture()
	if _, err := b.npm("interpreter", name+"@"+b.Version); err != nil {
		return err
	}
	return b.adoptNode(filepath.Join(b.work, "interpreter/node_modules", name, "bin/node"), "of npm's "+name)
}

// npm installs packages into a folder of their own and returns its
// node_modules.
func (b *build) npm(folder string, args ...string) (string, error) {
	dir := filepath.Join(b.work, folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte("{\"private\":true}\n"), 0o644); err != nil {
		return "", err
	}
	argv := append([]string{"npm", "install", "--no-fund", "--no-audit", "--omit=dev", "--loglevel=error"}, args...)
	// The client's native part is made with make.
	_, err := b.run(command{dir: dir, argv: argv, env: []string{"MAKEFLAGS=-j" + strconv.Itoa(runtime.NumCPU())}})
	return filepath.Join(dir, "node_modules"), err
}

func (b *build) copyNode() error { return copyFile(b.node.program, b.lang("bin/node")) }

// clientOfNode is the version of aws-lambda-ric. The last one that knows
// handlers with callbacks is 3.3; on AWS they ended with Node.js 24.
func (b *build) clientOfNode() string {
	if major, _ := strconv.Atoi(b.Version); major >= 24 {
		return "4.0.2"
	}
	return "3.3.0"
}

// nodeClientParts are the packages of the client that are needed when it runs.
func nodeClientParts() []string { return []string{"aws-lambda-ric", "@aws/lambda-invoke-store"} }

// fetchNodeClient installs the client. Its native part is compiled on the way,
// which takes a minute; since it uses nothing but Node-API it serves every
// version of Node.js, and is kept.
func (b *build) fetchNodeClient() error {
	version := b.clientOfNode()
	b.m.Client = "aws-lambda-ric " + version
	kept := filepath.Join(b.cache, "aws-lambda-ric-"+version+"-"+nodeArchitecture())
	if _, err := os.Stat(kept); err != nil {
		if err := b.compileNodeClient(version, kept); err != nil {
			return err
		}
	}
	if err := (copying{b.ctx, nil}).dir(kept, b.client("node_modules")); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"index.mjs": nodeMain, "node-path.mjs": nodePath} {
		if err := os.WriteFile(b.client(name), text, 0o644); err != nil {
			return err
		}
	}
	script := strings.ReplaceAll(nodeScript, "@VERSION@", b.Version)
	return b.writeScript(scriptHead + script + scriptTail)
}

func (b *build) compileNodeClient(version, kept string) error {
	tools := []string{"g++", "make", "cmake", "python3"}
	if strings.HasPrefix(version, "3.") {
		tools = append(tools, "autoreconf", "libtoolize")
	}
	if err := need("to compile the native part of aws-lambda-ric "+version, tools...); err != nil {
		return err
	}
	args := []string{"aws-lambda-ric@" + version}
	if b.node.headers != "" {
		args = append(args, "--nodedir="+b.node.headers)
	}
	modules, err := b.npm("client", args...)
	if err != nil {
		return err
	}
	fresh := filepath.Join(b.work, "kept")
	skip := func(path string, isDir bool) bool {
		return isDir && slices.Contains([]string{"deps", "src", "scripts", "build", "node-addon-api", "node_modules"}, path)
	}
	native := false
	for _, part := range nodeClientParts() {
		from := filepath.Join(modules, part)
		if _, err := os.Stat(from); err != nil {
			continue // the store is part of newer clients only
		}
		if err := (copying{b.ctx, skip}).dir(from, filepath.Join(fresh, part)); err != nil {
			return err
		}
		for _, place := range []string{"rapid-client.node", "dist/rapid-client.node"} {
			_, err := os.Stat(filepath.Join(fresh, part, place))
			native = native || err == nil
		}
	}
	if !native {
		return errors.New("npm has installed aws-lambda-ric without compiling its native part; does it allow install scripts?")
	}
	return os.Rename(fresh, kept)
}

// nodeSDK is what of the AWS SDK for JavaScript goes into the runtimes. AWS has
// all clients there, several hundred; these are the ones most used.
func nodeSDK() []string {
	clients := strings.Fields("apigatewaymanagementapi bedrock-runtime cloudwatch cloudwatch-logs cognito-identity-provider " +
		"dynamodb ecr ecs eventbridge firehose iam kinesis kms lambda rds-data s3 scheduler secrets-manager ses sesv2 sfn sns " +
		"sqs ssm sts")
	var list []string
	for _, name := range clients {
		list = append(list, "@aws-sdk/client-"+name)
	}
	return append(list, "@aws-sdk/credential-providers", "@aws-sdk/lib-dynamodb", "@aws-sdk/lib-storage",
		"@aws-sdk/s3-request-presigner", "@aws-sdk/util-dynamodb")
}

func (b *build) fetchNodeSDK() error {
	if b.NoSDK {
		return nil
	}
	modules, err := b.npm("sdk", nodeSDK()...)
	if err != nil {
		return err
	}
	skip := func(path string, isDir bool) bool {
		name := filepath.Base(path)
		return isDir && (name == ".bin" || name == "dist-types") || strings.HasSuffix(name, ".d.ts") || strings.HasSuffix(name, ".map") ||
			strings.EqualFold(name, "readme.md") || strings.EqualFold(name, "changelog.md") || name == ".package-lock.json" ||
			b.hasClientPart(path)
	}
	return copying{b.ctx, skip}.dir(modules, b.client("node_modules"))
}

// hasClientPart says that path is a package that came with the client, whose
// own version stays.
func (b *build) hasClientPart(path string) bool {
	if !slices.Contains(nodeClientParts(), path) {
		return false
	}
	_, err := os.Stat(b.client("node_modules", path))
	return err == nil
}

// tryNode loads the native part of the client with the copied interpreter.
func (b *build) tryNode() error {
	found, err := filepath.Glob(b.client("node_modules/aws-lambda-ric/rapid-client.node"))
	if err == nil && len(found) == 0 {
		found, err = filepath.Glob(b.client("node_modules/aws-lambda-ric/dist/rapid-client.node"))
	}
	if err != nil || len(found) != 1 {
		return errors.Join(errors.New("the client has no native part"), err)
	}
	quoted, err := json.Marshal(found[0])
	if err != nil {
		return err
	}
	_, err = b.run(command{argv: []string{b.lang("bin/node"), "-e", "require(" + string(quoted) + ")"},
		env: []string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001"}}) // read as it is loaded, and not yet called
	return err
}
