package auth

import (
	"strconv"
	"testing"
)

// TestKeyCache: another secret of the same key does not meet the old signing
// key, and the cache does not grow without end.
func TestKeyCache(t *testing.T) {
	var c keyCache
	name := keyOf{"k", "20261120", "r", "s"}
	a := c.get(name, "one")
	if c.get(name, "two") == a || c.get(name, "one") != a {
		t.Error("keys are mixed up")
	}
	for i := range maxKeys + 10 {
		c.get(keyOf{strconv.Itoa(i), "20261120", "r", "s"}, "x")
		if len(c.keys) > maxKeys {
			t.Fatalf("%d keys after %d", len(c.keys), i)
		}
	}
}

// TestFor: the authenticators of several services share their keys and differ
// in the scope they accept.
func TestFor(t *testing.T) {
	a := New(Config{Service: "lambda", Region: "r"})
	logs := a.For("logs")
	if logs.keys != a.keys || logs.cfg.Service != "logs" || logs.cfg.Region != "r" || a.cfg.Service != "lambda" {
		t.Errorf("%+v, %+v", a.cfg, logs.cfg)
	}
	if New(Config{}).keys == a.keys {
		t.Error("two authenticators that were made apart share a cache")
	}
}
