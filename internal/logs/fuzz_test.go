package logs

import (
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/logstore"
)

// FuzzTokens: a token is refused or means what it says, and turning twice
// leads back.
func FuzzTokens(f *testing.F) {
	f.Add("f/" + logstore.Position{Timestamp: 5, Seq: 7}.String())
	f.Add("b/" + logstore.Position{}.String())
	f.Add("b/" + logstore.Position{Timestamp: 5}.String())
	f.Add("bm9uc2Vuc2U")
	f.Fuzz(func(t *testing.T, token string) {
		if name, err := afterToken(&token); err == nil && *pageToken(name) != token && len(token) != 0 && !strings.ContainsAny(token, "\r\n") {
			if again, err := afterToken(pageToken(name)); err != nil || again != name {
				t.Errorf("%q is %q, then %q, %v", token, name, again, err)
			}
		}
		c, err := parseCursor(&token, false)
		if err != nil {
			return
		}
		if c.String() != token {
			t.Errorf("%q is %s", token, c)
		}
		turned := c.turned()
		if turned.backward == c.backward {
			t.Errorf("%s does not turn", c)
		}
		if !c.at.IsZero() && !turned.at.IsZero() && c.at.Seq != 0 && c.at.Seq+1 != 0 && turned.turned() != c {
			t.Errorf("%s turns to %s and to %s", c, turned, turned.turned())
		}
	})
}

// FuzzIdentifier: whatever a group is called by, only groups that exist are
// found.
func FuzzIdentifier(f *testing.F) {
	f.Add("arn:aws:logs:eu-central-1:123456789012:log-group:g:*")
	f.Add("g")
	store, err := logstore.Open(logstore.Config{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	if err := store.CreateGroup("g"); err != nil {
		f.Fatal(err)
	}
	s := New(Config{Store: store, Region: testRegion, Account: testAccount})
	f.Fuzz(func(t *testing.T, identifier string) {
		if name, err := s.existing(identifier); err == nil && name != "g" {
			t.Errorf("%q is found as %q", identifier, name)
		}
	})
}
