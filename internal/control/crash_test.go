package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
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

// serveChild is the control plane that the test kills.
func serveChild(dir string) {
	n, err := startNode(dir, options{effects: everyEffect()})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(n.server.URL)
	io.Copy(io.Discard, os.Stdin) // ends with the parent
	n.close()
}

// child starts a control plane of its own process on a data directory.
func child(t *testing.T, dir string) (client *lambda.Client, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childDir+"="+dir, "TMPDIR="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
		stdin.Close()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http") {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return newClient(strings.TrimSpace(line)), kill
}

// user makes changes, and knows after each which states of its function and
// its layer are possible: the acknowledged one, and where an answer is
// missing the one asked for too.
type user struct {
	name     string
	rng      *rand.Rand
	serial   int
	function map[string]string           // possible CodeSha256 -> content; "" for absent
	layer    map[int64]map[string]string // version -> possible CodeSha256 -> content
	highest  int64                       // version ever seen
	settled  int                         // operations acknowledged
	bad      error                       // what must never happen
}

func newUser(i int) *user {
	return &user{
		name: fmt.Sprint("user", i), rng: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano()))),
		function: map[string]string{"": ""}, layer: map[int64]map[string]string{},
	}
}

// content is an archive that nothing else has, of up to 200 kB.
func (u *user) content() []byte {
	u.serial++
	body := make([]byte, u.rng.IntN(200_000))
	for i := range body {
		body[i] = byte(u.rng.Uint32())
	}
	return zipOf(map[string]string{"bootstrap*": fmt.Sprint(u.name, u.serial), "data": string(body)})
}

// act makes one change; false when the control plane is gone.
func (u *user) act(ctx context.Context, c *lambda.Client) bool {
	var err error
	_, absent := u.function[""]
	switch n := u.rng.IntN(10); {
	case n < 3:
		err = u.publish(ctx, c)
	case n < 4 && len(u.layer) > 0:
		err = u.unpublish(ctx, c)
	case absent:
		code := u.content()
		_, err = c.CreateFunction(ctx, creation(u.name, code))
		u.expect(shaOf(code), code, err)
	case n < 6:
		_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &u.name})
		u.expect("", nil, err)
	default:
		code := u.content()
		_, err = c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &u.name, ZipFile: code})
		u.expect(shaOf(code), code, err)
	}
	var answered smithy.APIError
	if err == nil {
		u.settled++
	}
	return err == nil || errors.As(err, &answered)
}

// expect notes the outcome of a change of the function.
func (u *user) expect(sha string, content []byte, err error) {
	var refused smithy.APIError
	switch {
	case err == nil:
		u.function = map[string]string{sha: string(content)}
	case errors.As(err, &refused): // nothing has changed
	default:
		u.function[sha] = string(content)
	}
}

func (u *user) publish(ctx context.Context, c *lambda.Client) error {
	content := u.content()
	out, err := c.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: &u.name, Content: &types.LayerVersionContentInput{ZipFile: content}})
	if err != nil {
		u.layer[u.highest+1] = map[string]string{"": "", shaOf(content): string(content)}
		return err
	}
	if out.Version <= u.highest {
		u.bad = errors.Join(u.bad, fmt.Errorf("%s: version %d was given after %d", u.name, out.Version, u.highest))
	}
	u.highest = out.Version
	u.layer[out.Version] = map[string]string{shaOf(content): string(content)}
	return nil
}

func (u *user) unpublish(ctx context.Context, c *lambda.Client) error {
	version := slices.Collect(maps.Keys(u.layer))[u.rng.IntN(len(u.layer))]
	_, err := c.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: &u.name, VersionNumber: &version})
	if err != nil {
		u.layer[version][""] = ""
		return err
	}
	delete(u.layer, version)
	return nil
}

// verify compares what is there with what is possible, and takes it as known.
func (u *user) verify(w *world, digests map[string]bool) {
	t := w.t
	if u.bad != nil {
		t.Error(u.bad)
	}
	sha := ""
	out, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &u.name})
	if err == nil {
		sha = *out.Configuration.CodeSha256
		if out.Configuration.State != types.StateActive || out.Configuration.LastUpdateStatus != types.LastUpdateStatusSuccessful {
			t.Errorf("%s is %s, %s after the restart", u.name, out.Configuration.State, out.Configuration.LastUpdateStatus)
		}
		u.compare(t, *out.Code.Location, u.function[sha])
		digests[sha] = true
	}
	if _, possible := u.function[sha]; !possible {
		t.Errorf("%s has the code %q, want one of %q", u.name, sha, slices.Collect(maps.Keys(u.function)))
	}
	u.function = map[string]string{sha: u.function[sha]}
	for version, possible := range u.layer {
		sha := ""
		out, err := w.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: &u.name, VersionNumber: aws.Int64(version)})
		if err == nil {
			sha = *out.Content.CodeSha256
			u.highest = max(u.highest, version)
			u.compare(t, *out.Content.Location, possible[sha])
			digests[sha] = true
		}
		if _, ok := possible[sha]; !ok {
			t.Errorf("version %d of %s has %q", version, u.name, sha)
		}
		u.layer[version] = map[string]string{sha: possible[sha]}
		if sha == "" {
			delete(u.layer, version)
		}
	}
}

func (u *user) compare(t *testing.T, url, want string) {
	if status, body := fetch(t, url); status != http.StatusOK || body != want {
		t.Errorf("%s: %d and %d bytes, want %d", u.name, status, len(body), len(want))
	}
}

// TestKill kills a control plane while it is changed, again and again, and
// compares what the next one finds with what was acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var users []*user
	for i := range 4 {
		users = append(users, newUser(i))
	}
	for round := range 8 {
		client, kill := child(t, dir)
		var working sync.WaitGroup
		var changes atomic.Int64
		enough, most := make(chan struct{}), int64(5+rand.IntN(40))
		for _, u := range users {
			working.Go(func() {
				for u.act(t.Context(), client) {
					if changes.Add(1) == most {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough:
			<-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond) // anywhere in the next ones
		case <-time.After(waitLimit):
			t.Error("the control plane is stuck")
		}
		kill()
		working.Wait()
		verifyAll(t, dir, users, round)
	}
	settled := 0
	for _, u := range users {
		settled += u.settled
	}
	if settled < 50 {
		t.Errorf("only %d changes were acknowledged: the test proves nothing", settled)
	}
	t.Logf("%d changes acknowledged", settled)
}

// verifyAll opens the data directory and checks everything in it.
func verifyAll(t *testing.T, dir string, users []*user, round int) {
	n, err := startNode(dir, options{})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	w := &world{node: n, t: t, path: dir, Client: newClient(n.server.URL)}
	digests := map[string]bool{}
	for _, u := range users {
		u.verify(w, digests)
	}
	stored := 0
	for info, err := range n.blobs.List() {
		if err == nil {
			stored++
			err = n.blobs.Verify(t.Context(), info.Digest)
		}
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if stored != len(digests) {
		t.Errorf("round %d: %d archives are stored, %d are in use", round, stored, len(digests))
	}
	if left, err := os.ReadDir(dir + "/blobs/tmp"); err != nil || len(left) > 0 {
		t.Errorf("round %d: half-written archives: %v, %v", round, left, err)
	}
	if err := n.close(); err != nil {
		t.Errorf("round %d: close: %v", round, err)
	}
}
