package runtimes

import (
	"archive/zip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Embedded files of Java's runtimes.
var (
	//go:embed files/java.sh
	javaScript string
	// javaMain is Main.java, compiled for Java 8; a test compares the two.
	//go:embed files/java/Main.class
	javaMain []byte
)

func javaSteps() []step {
	return []step{
		{"looking for a JDK", (*build).findJDK},
		{"copying it", (*build).copyJDK},
		{"fetching the runtime interface client", (*build).fetchJavaClient},
		{"trying it", (*build).tryJava},
	}
}

// findJDK looks at JAVA_HOME, where distributions keep theirs, and for the java
// on PATH.
func (b *build) findJDK() error {
	candidates := []string{b.Interpreter}
	if b.Interpreter == "" {
		candidates = []string{os.Getenv("JAVA_HOME")}
		for _, pattern := range []string{"/usr/lib/jvm/*", "/opt/java/*", "/opt/jdk*"} {
			found, _ := filepath.Glob(pattern) // the patterns are well-formed
			candidates = append(candidates, found...)
		}
		if java, err := exec.LookPath("java"); err == nil {
			if java, err = filepath.EvalSymlinks(java); err == nil {
				candidates = append(candidates, filepath.Dir(filepath.Dir(java)))
			}
		}
	}
	for _, dir := range candidates {
		if dir == "" {
			continue
		}
		version, err := b.askJava(dir)
		if err == nil {
			b.jdk = dir
			b.m.Interpreter = "Java " + version + " of " + dir
			return nil
		}
		if b.Interpreter != "" {
			return err
		}
	}
	return &NeedError{What: "a JDK " + b.Version + ", in JAVA_HOME, /usr/lib/jvm or on PATH, or named with --interpreter"}
}

// askJava returns the version of a JDK or runtime image if it is the right one.
func (b *build) askJava(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), "JAVA_VERSION=")
		if !found {
			continue
		}
		version := strings.Trim(value, `"`)
		major, _, _ := strings.Cut(strings.TrimPrefix(version, "1."), ".")
		if major != b.Version {
			return "", fmt.Errorf("%s is Java %s", dir, version)
		}
		return version, nil
	}
	return "", fmt.Errorf("%s/release tells no version", dir)
}

// skipJDK leaves out what serves development only.
func skipJDK(path string, isDir bool) bool {
	if isDir && slices.Contains([]string{"jmods", "man", "include", "demo", "legal", "docs"}, path) {
		return true
	}
	return slices.Contains([]string{"lib/src.zip", "src.zip", "lib/ct.sym"}, path) ||
		strings.HasSuffix(path, ".debuginfo") || strings.HasSuffix(path, ".diz")
}

func (b *build) copyJDK() error {
	if err := (copying{b.ctx, skipJDK}).dir(b.jdk, b.lang()); err != nil {
		return err
	}
	// The archive of the base classes saves a third of a second at each start.
	if _, err := os.Stat(b.lang("lib/server/classes.jsa")); err != nil {
		_, err := b.run(command{argv: []string{b.lang("bin/java"), "-Xshare:dump"}})
		return err
	}
	return nil
}

// javaClient is the client and what it needs, by file and SHA-256. Source:
// Maven Central.
func javaClient() map[string]string {
	return map[string]string{
		"aws-lambda-java-runtime-interface-client-2.9.0.jar": "26568a5f63bf9e921567e77661be425650abc8972bae2aa0b7e99bab4e4239d9",
		"aws-lambda-java-core-1.4.0.jar":                     "575c24393cc1ad645e83e618956eabd89ffe8cc09efae2cb62bc6589154d68ed",
		"aws-lambda-java-serialization-1.2.0.jar":            "1513c1f945a3213f916a4b2de1760c97b51d84d110f82bbbcf9cfac53d5651e7",
		"utils-lite-2.34.0.jar":                              "efaf784f07ae526f0b5c89d71ef21cf16636131c47d44616e3df9bedc3f4f89a",
		"annotations-2.34.0.jar":                             "fafdcb55f4e5af603f5219f4a2b080aa0decb562a7c0944f7a7eca82dd47e487",
	}
}

const javaProject = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>run.firn</groupId><artifactId>runtime</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>aws-lambda-java-runtime-interface-client</artifactId><version>2.9.0</version>
  </dependency></dependencies>
</project>
`

// fetchJavaClient has Maven resolve the client, with the user's own mirrors and
// proxies, and takes the archives only if they are the ones that are known.
func (b *build) fetchJavaClient() error {
	b.m.Client = "aws-lambda-java-runtime-interface-client 2.9.0"
	kept := filepath.Join(b.cache, "aws-lambda-java-runtime-interface-client-2.9.0")
	if _, err := os.Stat(kept); err != nil {
		if err := b.resolveJavaClient(kept); err != nil {
			return err
		}
	}
	for name, want := range javaClient() {
		text, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			return errors.Join(fmt.Errorf("%s has the SHA-256 %x, not %s", name, sum, want), os.RemoveAll(kept))
		}
		if err := copyFile(filepath.Join(kept, name), b.client("lib", name)); err != nil {
			return err
		}
	}
	if err := b.writeJavaMain(); err != nil {
		return err
	}
	return b.writeScript(scriptHead + b.javaStart() + scriptTail)
}

func (b *build) resolveJavaClient(kept string) error {
	if err := need("to fetch the runtime interface client", "mvn"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.work, "pom.xml"), []byte(javaProject), 0o644); err != nil {
		return err
	}
	fresh := filepath.Join(b.work, "jars")
	_, err := b.run(command{argv: []string{
		"mvn", "--quiet", "--batch-mode", "--strict-checksums", "dependency:copy-dependencies", "-DincludeScope=runtime",
		"-DoutputDirectory=" + fresh,
	}})
	if err != nil {
		return err
	}
	return os.Rename(fresh, kept)
}

// javaStart is the part of the start command that is Java's.
func (b *build) javaStart() string {
	return strings.NewReplacer("@FLAGS@", b.javaFlags(), "@VERSION@", b.Version).Replace(javaScript)
}

// javaFlags are those of newer versions only: they warn of what the client
// does (its logging reaches into the JDK, and it loads a library).
func (b *build) javaFlags() string {
	major, _ := strconv.Atoi(b.Version)
	flags := ""
	if major >= 24 {
		flags += "--enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow "
	}
	if major >= 9 {
		flags += "--add-opens=java.base/java.io=ALL-UNNAMED "
	}
	return flags
}

// writeJavaMain packs the class that reads _HANDLER.
func (b *build) writeJavaMain() (err error) {
	f, err := os.Create(b.client("lib/firn-main.jar"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	archive := zip.NewWriter(f)
	w, err := archive.CreateHeader(&zip.FileHeader{Name: "run/firn/Main.class", Modified: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err == nil {
		_, err = w.Write(javaMain)
	}
	return errors.Join(err, archive.Close())
}

// tryJava has the copy load the client's main class: without an environment it
// says that a variable is missing.
func (b *build) tryJava() error {
	out, err := b.run(command{argv: []string{b.lang("bin/java"), "-cp", b.client("lib") + "/*", "run.firn.Main", "x"}})
	if err == nil || !strings.Contains(err.Error(), "com.amazonaws.services.lambda") {
		return fmt.Errorf("the client does not start: %s %w", out, err)
	}
	return nil
}
