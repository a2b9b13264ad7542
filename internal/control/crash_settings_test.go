package control_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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

	"github.com/firn-run/firn/internal/control"
)

// everyEffect serves all settings.
func everyEffect() control.Effects {
	effects := urlEffects()
	effects.Limits, effects.Async, effects.Recursion, effects.RuntimeVersions = newLimits(), true, true, true
	return effects
}

// keeper changes the versions and settings of one function, and knows which
// values of each are possible: the acknowledged one, and where an answer is
// missing the one asked for too.
type keeper struct {
	name    string
	rng     *rand.Rand
	facts   map[string]map[string]bool
	highest int
	acked   int
}

func (k *keeper) is(fact, value string) { k.facts[fact] = map[string]bool{value: true} }

// try makes a change after which fact has a value; false when the control
// plane is gone.
func (k *keeper) try(fact, value string, call func() error) bool {
	err := call()
	var refused smithy.APIError
	switch {
	case err == nil:
		k.acked++
		k.is(fact, value)
	case errors.As(err, &refused):
	default:
		if k.facts[fact] == nil {
			k.is(fact, "")
		}
		k.facts[fact][value] = true
		return false
	}
	return true
}

// some is the number of a version that may be there.
func (k *keeper) some() string { return fmt.Sprint(1 + k.rng.IntN(max(k.highest, 1))) }

// act makes one change.
func (k *keeper) act(ctx context.Context, c *lambda.Client) bool {
	f := &k.name
	switch k.rng.IntN(9) {
	case 0, 1:
		code := zipOf(map[string]string{"bootstrap*": fmt.Sprint(k.name, k.rng.Uint64())})
		next := fmt.Sprint(k.highest + 1)
		return k.try("version "+next, shaOf(code), func() error {
			out, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: f, ZipFile: code, Publish: true})
			if err != nil {
				return err
			}
			if k.highest++; *out.Version != next {
				panic(fmt.Sprintf("version %s of %s, want %s", *out.Version, k.name, next)) // a number twice or left out
			}
			return nil
		})
	case 2:
		v := k.some()
		return k.try("version "+v, "", func() error {
			_, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: f, Qualifier: &v})
			return err
		})
	case 3:
		v := k.some()
		return k.try("alias", v, func() error {
			_, err := c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: f, Name: aws.String("live"), FunctionVersion: &v})
			return err
		})
	case 4:
		sid := fmt.Sprint("s", k.rng.IntN(2))
		if k.rng.IntN(2) == 0 {
			return k.try(sid, "yes", func() error {
				in := permission(k.name, sid, "lambda:InvokeFunction", "s3.amazonaws.com")
				_, err := c.AddPermission(ctx, &in)
				return err
			})
		}
		return k.try(sid, "", func() error {
			_, err := c.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: f, StatementId: &sid})
			return err
		})
	case 5:
		n := int32(k.rng.IntN(3))
		return k.try("retries", fmt.Sprint(n), func() error {
			_, err := c.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{FunctionName: f, MaximumRetryAttempts: &n})
			return err
		})
	case 6:
		loop := []types.RecursiveLoop{types.RecursiveLoopAllow, types.RecursiveLoopTerminate}[k.rng.IntN(2)]
		return k.try("loop", string(loop), func() error {
			_, err := c.PutFunctionRecursionConfig(ctx, &lambda.PutFunctionRecursionConfigInput{FunctionName: f, RecursiveLoop: loop})
			return err
		})
	case 7:
		if k.rng.IntN(2) == 0 {
			return k.try("reserved", "0", func() error {
				_, err := c.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: f, ReservedConcurrentExecutions: aws.Int32(0)})
				return err
			})
		}
		return k.try("reserved", "", func() error {
			_, err := c.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: f})
			return err
		})
	}
	if k.rng.IntN(2) == 0 {
		return k.try("url", "yes", func() error {
			_, err := c.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: f, AuthType: types.FunctionUrlAuthTypeNone})
			return err
		})
	}
	return k.try("url", "", func() error {
		_, err := c.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: f})
		return err
	})
}

// read is what is there. A value that cannot be read is "".
func (k *keeper) read(t *testing.T, c *lambda.Client) map[string]string {
	ctx, f, now := t.Context(), &k.name, map[string]string{}
	if out, err := c.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: f, Name: aws.String("live")}); err == nil {
		now["alias"] = *out.FunctionVersion
	}
	if out, err := c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: f}); err == nil {
		for _, sid := range []string{"s0", "s1"} {
			if strings.Contains(*out.Policy, `"Sid":"`+sid+`"`) {
				now[sid] = "yes"
			}
		}
	}
	if out, err := c.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: f}); err == nil {
		now["retries"] = fmt.Sprint(*out.MaximumRetryAttempts)
	}
	if out, err := c.GetFunctionRecursionConfig(ctx, &lambda.GetFunctionRecursionConfigInput{FunctionName: f}); err == nil {
		now["loop"] = string(out.RecursiveLoop)
	}
	if out, err := c.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: f}); err == nil && out.ReservedConcurrentExecutions != nil {
		now["reserved"] = fmt.Sprint(*out.ReservedConcurrentExecutions)
	}
	if _, err := c.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: f}); err == nil {
		now["url"] = "yes"
	}
	for n := range k.highest + 1 {
		v := fmt.Sprint(n + 1)
		if out, err := c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: f, Qualifier: &v}); err == nil {
			now["version "+v] = *out.CodeSha256
			if k.highest = max(k.highest, n+1); out.State != types.StateActive {
				t.Errorf("version %s of %s is %s after the restart", v, k.name, out.State)
			}
		}
	}
	return now
}

// verify compares what is there with what is possible, and takes it as known.
func (k *keeper) verify(t *testing.T, c *lambda.Client) {
	now := k.read(t, c)
	for fact, possible := range k.facts {
		if !possible[now[fact]] {
			t.Errorf("%s: %s is %q, want one of %q", k.name, fact, now[fact], slices.Collect(maps.Keys(possible)))
		}
		k.is(fact, now[fact])
	}
	if v := now["alias"]; now["version "+v] == "" {
		t.Errorf("%s: the alias stands for version %s, which is not there", k.name, v)
	}
}

// TestKillSettings is TestKill for versions, aliases, policies and settings.
func TestKillSettings(t *testing.T) {
	dir := t.TempDir()
	n, err := startNode(dir, options{effects: everyEffect()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{node: n, t: t, path: dir, Client: newClient(n.server.URL)}
	var keepers []*keeper
	for i := range 4 {
		k := &keeper{name: fmt.Sprint("f", i), rng: rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano()))), facts: map[string]map[string]bool{}, highest: 1}
		w.create(k.name, hello())
		w.publish(k.name)
		w.alias(k.name, "live", "1")
		k.is("alias", "1")
		k.is("loop", "Terminate")
		k.is("version 1", *w.get(k.name, "1").CodeSha256)
		keepers = append(keepers, k)
	}
	for round := range 6 {
		if err := n.close(); err != nil {
			t.Fatal(err)
		}
		client, kill := child(t, dir)
		var working sync.WaitGroup
		var changes atomic.Int64
		enough, most := make(chan struct{}), int64(20+rand.IntN(100))
		for _, k := range keepers {
			working.Go(func() {
				for k.act(t.Context(), client) {
					if changes.Add(1) == most {
						close(enough)
					}
				}
			})
		}
		select {
		case <-enough:
			<-time.After(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		case <-time.After(waitLimit):
			t.Error("the control plane is stuck")
		}
		kill()
		working.Wait()
		if n, err = startNode(dir, options{effects: everyEffect()}); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, k := range keepers {
			k.verify(t, newClient(n.server.URL))
		}
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	acked := 0
	for _, k := range keepers {
		acked += k.acked
	}
	if acked < 50 {
		t.Errorf("only %d changes were acknowledged: the test proves nothing", acked)
	}
	t.Logf("%d changes acknowledged", acked)
}
