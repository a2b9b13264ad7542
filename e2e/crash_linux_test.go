package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

// crashes is how often TestCrash kills firn.
const crashes = 4

// TestCrash kills firn under load, again and again on one data directory:
// nothing that was acknowledged is lost, nothing keeps running, and what was
// half done leaves nothing.
func TestCrash(t *testing.T) {
	t.Parallel()
	if !inside(t) {
		return
	}
	before := look(t)
	book := &ledger{functions: map[string]acknowledged{}, layers: map[string]string{}}
	data := filepath.Join(t.TempDir(), "data")
	for round := range crashes {
		t.Run(fmt.Sprint("crash ", round+1), func(t *testing.T) { crashOnce(t, data, book) })
		if t.Failed() {
			return
		}
	}
	t.Run("after", func(t *testing.T) {
		n := start(t, options{data: data, args: []string{"--network", "none", "--auth", "none"}})
		book.check(t, n)
		book.deleteAll(t, n)
		n.stop()
		// The start after that finds what nobody refers to any more.
		n = start(t, options{data: data, args: []string{"--network", "none", "--auth", "none"}})
		n.stop()
		if left := look(t, data).more(withDir(before, data)); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		checkBlobs(t, data, book)
	})
}

// acknowledged is what firn has said of a function.
type acknowledged struct {
	sha         string
	description string
	// pending is what was asked for and not acknowledged: it may be or not.
	pending, pendingSHA string
	deleting            bool
}

// ledger holds what was acknowledged over all crashes.
type ledger struct {
	mu        sync.Mutex
	next      int
	functions map[string]acknowledged
	layers    map[string]string // ARN to CodeSha256
}

func (b *ledger) number() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	return b.next
}

func (b *ledger) set(name string, change func(*acknowledged)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.functions[name]
	change(&f)
	b.functions[name] = f
}

func crashOnce(t *testing.T, data string, book *ledger) {
	n := start(t, options{data: data, args: []string{"--network", "none", "--auth", "none"}})
	n.tolerate = true
	if groups := controlGroups(t); len(groups) > 0 {
		for _, dir := range groups {
			if !strings.Contains(dir, "-"+strconv.Itoa(n.cmd.Process.Pid)+"-") {
				t.Errorf("a control group of the firn before is left: %s", dir)
			}
		}
	}
	book.check(t, n)
	// The invoked function is there from the first round on.
	if _, known := book.functions["invoked"]; !known {
		n.create("invoked", function{})
		book.set("invoked", func(f *acknowledged) { f.sha = shaOf(archive(t, actorFiles(""))) })
	}
	secondOwner(t, data)

	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var changes, invocations atomic.Int64
	for range 8 {
		work.Go(func() {
			for ctx.Err() == nil {
				if a, err := n.tryInvoke(ctx, "invoked", order{Do: "sleep", Ms: 5}); err == nil && a.failure == "" {
					invocations.Add(1)
				}
			}
		})
	}
	for range 3 {
		work.Go(func() {
			for ctx.Err() == nil && changeSomething(ctx, t, n, book) {
				changes.Add(1)
			}
		})
	}
	halfUploads(t, n)
	n.succeed("invoked", order{Do: "daemon", Arg: "spin"})
	eventually(t, "changes and invocations go on", func() (bool, any) {
		c, i := changes.Load(), invocations.Load()
		return c >= 40 && i >= 300, fmt.Sprint(c, " changes, ", i, " invocations")
	})
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	n.wait()
	stop()
	work.Wait()
	eventually(t, "no process is left", func() (bool, any) {
		var left []string
		for pid, p := range processes(t) {
			if pid != os.Getpid() && p.state != "Z" {
				left = append(left, fmt.Sprintf("%d (%s) %s", pid, p.name, p.state))
			}
		}
		return len(left) == 0, left
	})
	t.Logf("%d changes, %d invocations; all processes gone %v after the kill, %d control groups are left for the next start",
		changes.Load(), invocations.Load(), time.Since(killed).Round(time.Millisecond), len(controlGroups(t)))
	if took := time.Since(killed); took > 20*time.Second {
		t.Errorf("processes were left for %v", took)
	}
}

// actorFiles are those of a function, different for each mark.
func actorFiles(mark string) map[string]file {
	files := map[string]file{"bootstrap": {from: program("actor")}}
	if mark != "" {
		files["mark"] = file{text: mark}
	}
	return files
}

func shaOf(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// changeSomething makes a function or a layer, or changes or deletes what it
// made. It returns false when firn is gone.
func changeSomething(ctx context.Context, t *testing.T, n *node, book *ledger) bool {
	number := book.number()
	name := fmt.Sprint("made-", number)
	noise := make([]byte, 1<<20) // so that writing takes its time
	rand.Read(noise)
	code := archive(t, map[string]file{"bootstrap": {text: "#!/bin/sh\nexit 1"}, "noise": {text: string(noise)}})
	if number%4 == 0 {
		out, err := n.client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
			LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: code},
		})
		if err == nil {
			book.mu.Lock()
			book.layers[*out.LayerVersionArn] = shaOf(code)
			book.mu.Unlock()
		}
		return carriesOn(t, err)
	}
	book.set(name, func(f *acknowledged) { f.pendingSHA = shaOf(code) })
	_, err := n.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("x"),
		Code: &types.FunctionCode{ZipFile: code},
	})
	if err != nil {
		return carriesOn(t, err)
	}
	book.set(name, func(f *acknowledged) { f.sha, f.pendingSHA = f.pendingSHA, "" })
	if err := n.active(ctx, name); err != nil {
		return carriesOn(t, err)
	}
	switch number % 3 {
	case 0:
		book.set(name, func(f *acknowledged) { f.pending = "changed" })
		_, err = n.client.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Description: aws.String("changed")})
		if err == nil {
			book.set(name, func(f *acknowledged) { f.description, f.pending = "changed", "" })
		}
	case 1:
		again := archive(t, map[string]file{"bootstrap": {text: "#!/bin/sh\nexit 2"}, "noise": {text: string(noise)}})
		book.set(name, func(f *acknowledged) { f.pendingSHA = shaOf(again) })
		_, err = n.client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: again})
		if err == nil {
			book.set(name, func(f *acknowledged) { f.sha, f.pendingSHA = f.pendingSHA, "" })
		}
	case 2:
		book.set(name, func(f *acknowledged) { f.deleting = true })
		_, err = n.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
		if err == nil {
			book.mu.Lock()
			book.functions[name] = acknowledged{}
			book.mu.Unlock()
		}
	}
	return carriesOn(t, err)
}

// carriesOn tells a firn that was killed from one that refuses.
func carriesOn(t *testing.T, err error) bool {
	var api smithy.APIError
	if errors.As(err, &api) {
		t.Errorf("firn refuses: %v", err)
	}
	return err == nil
}

// halfUploads leaves uploads that will never be complete.
func halfUploads(t *testing.T, n *node) {
	for range 4 {
		conn, err := net.Dial("tcp", n.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		io.WriteString(conn, "POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"+
			`{"FunctionName":"half","Code":{"ZipFile":"`+strings.Repeat("UEsDBB", 300_000))
	}
}

// secondOwner starts another firn on the same data directory.
func secondOwner(t *testing.T, data string) {
	t.Helper()
	other := launch(t, options{data: data, args: []string{"--network", "none"}})
	if err := other.wait(); err == nil {
		t.Error("a second firn runs on the same data directory")
	}
	if out := other.out.String(); !strings.Contains(out, data) || !strings.Contains(out, "in use") {
		t.Errorf("the second firn says: %s", out)
	}
}

// check compares what firn has with what it has acknowledged.
func (b *ledger) check(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, want := range maps.Clone(b.functions) {
		out, err := n.client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		var missing *types.ResourceNotFoundException
		switch {
		case errors.As(err, &missing):
			if want.sha != "" && !want.deleting {
				t.Errorf("%s is lost", name)
			}
			delete(b.functions, name)
			continue
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		case want.sha == "" && want.pendingSHA == "":
			t.Errorf("%s is back", name)
		}
		sha, description := aws.ToString(out.CodeSha256), aws.ToString(out.Description)
		if sha != want.sha && sha != want.pendingSHA {
			t.Errorf("%s has the code %s, want %s or %s", name, sha, want.sha, want.pendingSHA)
		}
		if description != want.description && description != want.pending {
			t.Errorf("%s is described as %q, want %q or %q", name, description, want.description, want.pending)
		}
		b.functions[name] = acknowledged{sha: sha, description: description}
		if err := n.active(ctx, name); err != nil {
			t.Errorf("%s does not become active: %v", name, err)
		}
	}
	for arn, sha := range b.layers {
		out, err := n.client.GetLayerVersionByArn(ctx, &lambda.GetLayerVersionByArnInput{Arn: &arn})
		if err != nil {
			t.Errorf("%s: %v", arn, err)
		} else if got := aws.ToString(out.Content.CodeSha256); got != sha {
			t.Errorf("%s has the content %s, want %s", arn, got, sha)
		}
	}
	if len(b.functions) > 0 {
		n.succeed("invoked", order{Do: "info"})
	}
	t.Logf("%d functions and %d layers are as acknowledged", len(b.functions), len(b.layers))
}

// deleteAll deletes all but one function.
func (b *ledger) deleteAll(t *testing.T, n *node) {
	for name := range b.functions {
		if name == "invoked" {
			continue
		}
		if _, err := n.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
}

// checkBlobs looks for archives and unpacked code that nobody refers to.
func checkBlobs(t *testing.T, data string, book *ledger) {
	var blobs, roots []string
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		rest, _ := filepath.Rel(data, path)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(rest, "blobs/") && !d.IsDir():
			blobs = append(blobs, rest)
		case filepath.Dir(rest) == "roots":
			roots = append(roots, rest)
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(book.layers) + 1; len(blobs) != want {
		t.Errorf("%d blobs are kept for %d layers and one function: %v", len(blobs), len(book.layers), blobs)
	}
	if len(roots) > len(book.layers)+1 {
		t.Errorf("unpacked archives of deleted functions are kept: %v", roots)
	}
}
