package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

const account = "123456789012"

func open(t testing.TB, path string) *Keyring {
	t.Helper()
	k, err := Open(Config{Path: path, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newRing(t testing.TB) *Keyring { return open(t, filepath.Join(t.TempDir(), "key")) }

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k := open(t, path)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != 0o600 {
		t.Errorf("key file has mode %v", fi.Mode())
	}
	if again := open(t, path); again.ID() != k.ID() || again.Root() != k.Root() {
		t.Error("a restart changes the keys")
	}
	if other := newRing(t); other.ID() == k.ID() || other.Root() == k.Root() {
		t.Error("two key files have the same keys")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("directory has %v, %v", left, err)
	}
}

// TestKeyFileLeftover: what a killed process left while it made the key is
// not taken for the key, and goes away.
func TestKeyFileLeftover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path+newSuffix, []byte("firn-key-1 half"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if _, err := os.Stat(path + newSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

// TestKeyFileMissing: a key that is lost is not replaced in silence.
func TestKeyFileMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	cfg := Config{Path: path, Account: account, MustExist: true}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), path+" is missing") {
		t.Errorf("error is %v", err)
	}
	k := open(t, path)
	again, err := Open(cfg)
	if err != nil || again.ID() != k.ID() {
		t.Error(err)
	}
}

func TestKeyFileRefused(t *testing.T) {
	good := keyPrefix + base64.StdEncoding.EncodeToString(make([]byte, keyBytes)) + "\n"
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"group can read", good, 0o640, "chmod 600"},
		{"others can read", good, 0o604, "chmod 600"},
		{"others can write", good, 0o602, "chmod 600"},
		{"empty", "", 0o600, "damaged"},
		{"truncated", good[:20], 0o600, "damaged"},
		{"no end of line", good[:len(good)-1], 0o600, "damaged"},
		{"newer", "firn-key-2" + good[10:], 0o600, "newer firn"},
		{"longer", good + good, 0o600, "damaged"},
		{"short key", keyPrefix + "AAAA\n", 0o600, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Config{Path: path, Account: account})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error is %v", err)
			}
			if len(c.content) > 20 && strings.Contains(err.Error(), c.content[11:20]) {
				t.Errorf("the message quotes the key: %v", err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != c.content {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	if _, err := Open(Config{Path: t.TempDir(), Account: account}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory as key file: %v", err)
	}
	if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "no", "key"), Account: account}); err == nil {
		t.Error("a key file in no directory")
	}
	for _, bad := range []string{"", "12345678901", "1234567890123", "12345678901x"} {
		if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "key"), Account: bad}); err == nil {
			t.Errorf("account %q is accepted", bad)
		}
	}
}

func TestSeal(t *testing.T) {
	k := newRing(t)
	for _, plain := range []string{"", "x", strings.Repeat("secret", 1000)} {
		sealed := k.Seal([]byte(plain), "function/f")
		if len(plain) > 8 && strings.Contains(sealed, plain[:9]) {
			t.Errorf("sealed is %q", sealed)
		}
		if k.Seal([]byte(plain), "function/f") == sealed {
			t.Error("sealing twice gives the same")
		}
		got, err := k.Open(sealed, "function/f")
		if err != nil || string(got) != plain {
			t.Errorf("opens to %q, %v", got, err)
		}
	}
	sealed := k.Seal([]byte("secret"), "function/f")
	for name, bad := range map[string]struct{ sealed, identity string }{
		"other identity": {sealed, "function/g"},
		"empty":          {"", "function/f"},
		"prefix only":    {sealedPrefix, "function/f"},
		"plain text":     {"secret", "function/f"},
		"other version":  {"firn2:" + sealed[len(sealedPrefix):], "function/f"},
		"truncated":      {sealed[:len(sealed)-4], "function/f"},
		"longer":         {sealed + "AAAA", "function/f"},
		"not base64":     {sealed[:len(sealed)-1] + "!", "function/f"},
		"new line":       {sealed[:20] + "\n" + sealed[20:], "function/f"},
		"changed":        {sealedPrefix + flip(sealed[len(sealedPrefix):]), "function/f"},
	} {
		if got, err := k.Open(bad.sealed, bad.identity); !errors.Is(err, ErrSealed) {
			t.Errorf("%s opens to %q, %v", name, got, err)
		}
	}
	if _, err := newRing(t).Open(sealed, "function/f"); !errors.Is(err, ErrSealed) {
		t.Errorf("another key opens it: %v", err)
	}
	token := strings.TrimRight(mustIssue(t, k, time.Now().Add(time.Hour)).SessionToken, "=")
	if _, err := k.Open(sealedPrefix+token, ""); !errors.Is(err, ErrSealed) {
		t.Errorf("a session token opens as a secret: %v", err)
	}
}

// flip changes one character in the middle.
func flip(s string) string {
	c := byte('A')
	if s[len(s)/2] == c {
		c = 'B'
	}
	return s[:len(s)/2] + string(c) + s[len(s)/2+1:]
}

const role = "arn:aws:iam::210987654321:role/service-role/my-role"

func mustIssue(t testing.TB, k *Keyring, expires time.Time) Credentials {
	t.Helper()
	c, err := k.Issue(role, "my-function", expires)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRoot(t *testing.T) {
	k := newRing(t)
	root := k.Root()
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(root.AccessKeyID) ||
		!regexp.MustCompile(`^[A-Za-z0-9/+]{40}$`).MatchString(root.SecretAccessKey) || root.SessionToken != "" {
		t.Errorf("%q %q", root.AccessKeyID, root.SecretAccessKey)
	}
	id, secret, err := k.Lookup(t.Context(), root.AccessKeyID, "", time.Now())
	want := firn.Identity{ARN: "arn:aws:iam::123456789012:root", Account: account, AccessKeyID: root.AccessKeyID, Root: true}
	if err != nil || id != want || secret != root.SecretAccessKey {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestTemporary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k := open(t, path)
	end := time.Unix(1_800_000_000, 999)
	c := mustIssue(t, k, end)
	if !regexp.MustCompile(`^ASIA[A-Z2-7]{16}$`).MatchString(c.AccessKeyID) ||
		!regexp.MustCompile(`^[A-Za-z0-9/+]{40}$`).MatchString(c.SecretAccessKey) ||
		!c.Expiration.Equal(time.Unix(1_800_000_000, 0)) || len(c.SessionToken) > 1000 {
		t.Errorf("%#v", c)
	}
	if d := mustIssue(t, k, end); d.AccessKeyID == c.AccessKeyID || d.SecretAccessKey == c.SecretAccessKey {
		t.Error("the same credentials twice")
	}
	k = open(t, path) // a restart in between
	want := firn.Identity{ARN: "arn:aws:sts::210987654321:assumed-role/my-role/my-function", Account: "210987654321", AccessKeyID: c.AccessKeyID}
	for _, now := range []time.Time{time.Unix(0, 0), c.Expiration.Add(-1)} {
		id, secret, err := k.Lookup(t.Context(), c.AccessKeyID, c.SessionToken, now)
		if err != nil || id != want || secret != c.SecretAccessKey {
			t.Errorf("%+v, %v", id, err)
		}
	}
	for _, now := range []time.Time{c.Expiration, c.Expiration.Add(time.Hour)} {
		id, secret, err := k.Lookup(t.Context(), c.AccessKeyID, c.SessionToken, now)
		f, ok := errors.AsType[*firn.Fault](err)
		if !ok || f.Kind != firn.ExpiredToken || f.Message != "The security token included in the request is expired" || secret != "" || id != (firn.Identity{}) {
			t.Errorf("%v", err)
		}
	}
}

func TestLookupRefused(t *testing.T) {
	k := newRing(t)
	now := time.Unix(1_700_000_000, 0)
	root, c, d := k.Root(), mustIssue(t, k, now.Add(time.Hour)), mustIssue(t, k, now.Add(time.Hour))
	other := mustIssue(t, newRing(t), now.Add(time.Hour))
	sealed := strings.TrimPrefix(k.Seal([]byte("x"), c.AccessKeyID), sealedPrefix)
	for name, q := range map[string]struct{ id, token string }{
		"nothing":                   {"", ""},
		"unknown long-term key":     {"AKIAIOSFODNN7EXAMPLE", ""},
		"root with a token":         {root.AccessKeyID, c.SessionToken},
		"temporary without a token": {c.AccessKeyID, ""},
		"token of another key id":   {c.AccessKeyID, d.SessionToken},
		"token of another keyring":  {other.AccessKeyID, other.SessionToken},
		"changed token":             {c.AccessKeyID, flip(c.SessionToken)},
		"truncated token":           {c.AccessKeyID, c.SessionToken[:20]},
		"not base64":                {c.AccessKeyID, "!!!!"},
		"endless token":             {c.AccessKeyID, strings.Repeat("A", 1<<20)},
		"sealed secret as token":    {c.AccessKeyID, sealed},
		"long-term id with a token": {"AKIA" + c.AccessKeyID[4:], c.SessionToken},
	} {
		id, secret, err := k.Lookup(t.Context(), q.id, q.token, now)
		f, ok := errors.AsType[*firn.Fault](err)
		if !ok || f.Kind != firn.UnrecognizedClient || f.Message != "The security token included in the request is invalid." || secret != "" || id != (firn.Identity{}) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
}

func TestIssueRefused(t *testing.T) {
	k := newRing(t)
	end := time.Now().Add(time.Hour)
	for _, bad := range []string{"", "my-role", "arn:aws:iam::123456789012:user/me", "arn:aws:iam::123456789012:role/", "arn:aws:iam::1:role/r",
		"arn:aws:sts::123456789012:role/r", "arn:aws:iam:us-east-1:123456789012:role/r", role + strings.Repeat("x", 2048)} {
		if _, err := k.Issue(bad, "session", end); err == nil {
			t.Errorf("role %.80q is accepted", bad)
		}
	}
	for _, bad := range []string{"", "a b", "a/b", "ü", strings.Repeat("x", 65)} {
		if _, err := k.Issue(role, bad, end); err == nil {
			t.Errorf("session %q is accepted", bad)
		}
	}
	for _, good := range []string{"f", "a-b_c=d,e.f@g+h", strings.Repeat("x", 64)} {
		c, err := k.Issue("arn:aws-cn:iam::123456789012:role/r", good, end)
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := k.Lookup(t.Context(), c.AccessKeyID, c.SessionToken, end.Add(-time.Minute))
		if err != nil || id.ARN != "arn:aws-cn:sts::123456789012:assumed-role/r/"+good {
			t.Error(id, err)
		}
	}
}

// TestNothingSecretShows: not in any verb of fmt, nor in a log.
func TestNothingSecretShows(t *testing.T) {
	k := newRing(t)
	c := mustIssue(t, k, time.Now().Add(time.Hour))
	var b strings.Builder
	log := slog.New(slog.NewJSONHandler(&b, nil))
	log.Info("x", "keyring", k, "root", k.Root(), "credentials", c, "pointer", &c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&b, verb+verb+verb+verb, k, k.Root(), c, &c)
	}
	shown := b.String()
	for _, secret := range []string{c.SecretAccessKey, c.SessionToken, k.Root().SecretAccessKey, fmt.Sprint(k.secrets)} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q shows in %s", secret, shown)
		}
	}
	if !strings.Contains(shown, c.AccessKeyID) || !strings.Contains(shown, k.Root().AccessKeyID) || !strings.Contains(shown, k.ID()) {
		t.Errorf("nothing shows at all: %s", shown)
	}
}

func FuzzParseSession(f *testing.F) {
	f.Add([]byte{})
	f.Add(session{role: role, name: "s", expires: 1}.marshal())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSession(b)
		if err != nil {
			return
		}
		if got := s.marshal(); string(got) != string(b) {
			t.Errorf("%x parses and marshals to %x", b, got)
		}
	})
}

func FuzzOpen(f *testing.F) {
	k := newRing(f)
	c := mustIssue(f, k, time.Now().Add(time.Hour))
	f.Add(k.Seal([]byte("x"), "id"), c.AccessKeyID, c.SessionToken)
	f.Add("firn1:", "ASIA", "AAAA")
	f.Fuzz(func(t *testing.T, sealed, id, token string) {
		if _, err := k.Open(sealed, "another id"); err == nil {
			t.Errorf("%q opens", sealed)
		}
		if _, _, err := k.Lookup(t.Context(), id, token, c.Expiration); err == nil && id != k.Root().AccessKeyID {
			t.Errorf("%q is looked up", id)
		}
		parseKey(sealed)
		_, _ = assumedRole(id, token)
	})
}

func BenchmarkLookup(b *testing.B) {
	k := newRing(b)
	c := mustIssue(b, k, time.Now().Add(time.Hour))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.Lookup(b.Context(), c.AccessKeyID, c.SessionToken, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	k := newRing(b)
	end := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		mustIssue(b, k, end)
	}
}
