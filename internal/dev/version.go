package dev

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/firn-run/firn/internal/runtimes"
)

var versionNumber = regexp.MustCompile(`\d+(?:\.\d+)?`)

// version is what the folder says about the language's version, in the files
// in which its tools look; "" when it says nothing.
func (d *detector) version(family runtimes.Family) string {
	first := func(text string) string { return versionNumber.FindString(text) }
	switch family {
	case runtimes.Python:
		return first(d.read(".python-version"))
	case runtimes.Ruby:
		return first(d.read(".ruby-version"))
	case runtimes.Nodejs:
		if v := first(d.read(".nvmrc")); v != "" {
			return v
		}
		var manifest struct{ Engines struct{ Node string } }
		if err := json.Unmarshal([]byte(d.read("package.json")), &manifest); err == nil {
			return first(manifest.Engines.Node)
		}
	case runtimes.Java:
		for _, tag := range []string{"maven.compiler.release", "maven.compiler.target", "release"} {
			_, rest, ok := strings.Cut(d.read("pom.xml"), "<"+tag+">")
			if v, _, closed := strings.Cut(rest, "<"); ok && closed {
				return first(v)
			}
		}
	}
	return ""
}

// choose takes a runtime of a family: of the version asked for, if there is
// one; one that is at hand before one that is not; the newest.
func (d *detector) choose(family runtimes.Family, version string) string {
	var of []string
	for _, r := range runtimes.All() {
		if r.Family != family || r.Support == runtimes.Blocked {
			continue
		}
		if sameVersion(r.Version, version) {
			return r.Name
		}
		if r.Support == runtimes.Current {
			of = append(of, r.Name)
		}
	}
	for _, name := range slices.Backward(of) {
		if slices.Contains(d.installed, name) {
			return name
		}
	}
	if len(of) == 0 {
		return ""
	}
	return of[len(of)-1]
}

// sameVersion compares as far as the catalogue's version goes: 22 is 22.4, and
// 3.1 is not 3.12.
func sameVersion(catalogue, asked string) bool {
	return asked != "" && (asked == catalogue || strings.HasPrefix(asked, catalogue+"."))
}
