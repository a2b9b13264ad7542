package logs

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firn-run/firn/internal/logstore"
)

// policy is a Permit that denies some actions and remembers what it was asked.
type policy struct {
	mu    sync.Mutex
	deny  map[string]bool // by "role action", the role's name alone
	asked []string
}

func (p *policy) permit(role, action, resource string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, role+" "+action+" "+resource)
	return !p.deny[role[len("arn:aws:iam::123456789012:role/"):]+" "+action]
}

func (p *policy) set(rule string, deny bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deny[rule] = deny
}

func (p *policy) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.asked
	p.asked = nil
	return list
}

func TestPermitIsAskedForWhatIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, p := newFakeStore(), &policy{deny: map[string]bool{}}
		i := NewIngest(IngestConfig{Store: store, Permit: p.permit})
		src := source("f")
		role, arn := "arn:aws:iam::123456789012:role/f ", " arn:aws:logs:eu-north-1:123456789012:log-group:/aws/lambda/f:log-stream:"
		put := role + "logs:PutLogEvents" + arn + "one"
		say(i, src, "first")
		time.Sleep(time.Second) // archtest:sleep virtual time
		want(t, "first line", p.take(), []string{put, role + "logs:CreateLogGroup" + arn, role + "logs:CreateLogStream" + arn + "one"})
		say(i, src, "second")
		time.Sleep(time.Second)
		want(t, "second line", p.take(), []string(nil))
		time.Sleep(permitFor)
		say(i, src, "third")
		time.Sleep(time.Second)
		want(t, "after a while", p.take(), []string{put})
		other := source("f")
		other.LogStream = "two"
		say(i, other, "another environment")
		time.Sleep(time.Second)
		want(t, "second stream", p.take(), []string{role + "logs:PutLogEvents" + arn + "two", role + "logs:CreateLogStream" + arn + "two"})
		finish(t, i)
		want(t, "lines", store.said("f one"), []string{"first\n", "second\n", "third\n"})
	})
}

// What one role is denied is that function's loss alone, and ends when the
// denial ends.
func TestPermitDenies(t *testing.T) {
	for _, action := range []string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"} {
		t.Run(action, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, p := newFakeStore(), &policy{deny: map[string]bool{"denied " + action: true}}
				i := NewIngest(IngestConfig{Store: store, Permit: p.permit})
				denied, free := source("denied"), source("free")
				for n := range 3 {
					say(i, denied, fmt.Sprint(n))
					say(i, free, fmt.Sprint(n))
					time.Sleep(5 * time.Second)
				}
				want(t, "lines of the other", store.said("free one"), []string{"0\n", "1\n", "2\n"})
				if len(store.creates) != 1 || store.said("denied one") != nil {
					t.Errorf("made %v", store.creates)
				}
				p.set("denied "+action, false)
				time.Sleep(permitFor)
				say(i, denied, "allowed")
				time.Sleep(time.Second)
				want(t, "lines after the denial", store.said("denied one"), []string{"allowed\n"})
				finish(t, i)
				st := i.Stats()
				if f := st.Functions[denied.ARN]; f.Denied != 3 || f.Dropped != 0 || f.Stored != 1 || st.Functions[free.ARN].Stored != 3 {
					t.Errorf("stats: %+v", st)
				}
			})
		})
	}
}

// In an existing group and stream PutLogEvents alone is needed.
func TestPermitNeedsNoCreateForWhatExists(t *testing.T) {
	store, err := logstore.Open(logstore.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, err := range []error{store.CreateGroup("/aws/lambda/f"), store.CreateStream("/aws/lambda/f", "one")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &policy{deny: map[string]bool{"f logs:CreateLogGroup": true, "f logs:CreateLogStream": true}}
	i := NewIngest(IngestConfig{Store: store, Permit: p.permit})
	say(i, source("f"), "x")
	finish(t, i)
	page, err := store.Read(logstore.Query{Group: "/aws/lambda/f"})
	if err != nil || len(page.Events) != 1 {
		t.Errorf("%d events, %v", len(page.Events), err)
	}
}
