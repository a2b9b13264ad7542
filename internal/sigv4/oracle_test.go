package sigv4_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	"github.com/firn-run/firn/internal/sigv4"
)

// drawn is a request that rapid has made up.
type drawn struct {
	http    *http.Request
	body    string
	presign bool
	token   string
}

// drawRequest makes up a request as SDKs build it.
func drawRequest(t *rapid.T) drawn {
	text := rapid.StringOf(rapid.SampledFrom([]rune("aZ09-_.~/:$ +&=%?#;,!*'()@\"<é日\t")))
	u := &url.URL{Scheme: "http", Host: rapid.SampledFrom([]string{"lambda.eu-central-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9"}).Draw(t, "host")}
	path, raw := "", ""
	for _, segment := range rapid.SliceOfN(text, 0, 4).Draw(t, "path") {
		path += "/" + segment
		raw += "/" + escape(segment)
	}
	u.Path, u.RawPath = path, raw
	query := url.Values{}
	for _, name := range rapid.SliceOfN(text, 0, 3).Draw(t, "names") {
		query[name] = append(query[name], rapid.SliceOfN(text, 1, 3).Draw(t, "values")...)
	}
	u.RawQuery = query.Encode()
	d := drawn{body: text.Draw(t, "body"), presign: rapid.Bool().Draw(t, "presign"), token: rapid.SampledFrom([]string{"", "tok/en+="}).Draw(t, "token")}
	method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE"}).Draw(t, "method")
	r, err := http.NewRequest(method, u.String(), strings.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	value := rapid.StringMatching(`[ a-zA-Z0-9=/+;,]{0,20}`)
	for _, name := range []string{"X-Amz-Client-Context", "X-Amz-Log-Type", "Content-Type", "X-Other"} {
		if rapid.Bool().Draw(t, name) {
			r.Header[name] = rapid.SliceOfN(value, 1, 2).Draw(t, "header")
		}
	}
	d.http = r
	return d
}

// escape encodes all but unreserved characters, as SDKs do with labels.
func escape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// sign has the SDK sign a request and returns it as a server sees it.
func (d drawn) sign(t *rapid.T, payloadHash string, at time.Time) *sigv4.Request {
	creds := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret, SessionToken: d.token}
	signer := v4.NewSigner()
	r := d.http
	if d.presign {
		target, headers, err := signer.PresignHTTP(context.Background(), creds, r, payloadHash, "lambda", "eu-central-1", at)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.Parse(target); err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{}
		for name, values := range headers { // some names come in small letters
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	} else if err := signer.SignHTTP(context.Background(), creds, r, payloadHash, "lambda", "eu-central-1", at); err != nil {
		t.Fatal(err)
	}
	if r.ContentLength > 0 {
		r.Header.Set("Content-Length", itoa(r.ContentLength))
	}
	return &sigv4.Request{Method: r.Method, EscapedPath: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Host: r.URL.Host, Header: r.Header}
}

func itoa(n int64) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func hashOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// TestAcceptsWhatTheSDKSigns: whatever the SDK's signer signs is verified, and
// the claim says what it was signed with.
func TestAcceptsWhatTheSDKSigns(t *testing.T) {
	at := signedAt()
	rapid.Check(t, func(t *rapid.T) {
		d := drawRequest(t)
		hash := rapid.SampledFrom([]string{hashOf(d.body), sigv4.UnsignedPayload}).Draw(t, "hash")
		r := d.sign(t, hash, at)
		claim, err := sigv4.Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		if claim.AccessKeyID != "AKIDEXAMPLE" || claim.SessionToken != d.token || claim.Presigned != d.presign {
			t.Fatalf("claim %+v", claim)
		}
		if err := claim.Check(at, "eu-central-1", "lambda"); err != nil {
			t.Fatal(err)
		}
		key := sigv4.SigningKey(secret, claim.Date, claim.Region, claim.Service)
		if err := claim.Verify(r, &key, hash); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRefusesWhatWasChanged: no part of a signed request can be changed.
func TestRefusesWhatWasChanged(t *testing.T) {
	at := signedAt()
	rapid.Check(t, func(t *rapid.T) {
		d := drawRequest(t)
		hash := hashOf(d.body)
		r := d.sign(t, hash, at)
		key := sigv4.SigningKey(secret, "20150830", "eu-central-1", "lambda")
		switch rapid.SampledFrom([]string{"method", "path", "double", "query", "host", "body", "header", "key", "time"}).Draw(t, "change") {
		case "method":
			r.Method += "X"
		case "path":
			r.EscapedPath += "x"
		case "double":
			if !strings.Contains(r.EscapedPath, "%") {
				return
			}
			r.EscapedPath = strings.ReplaceAll(r.EscapedPath, "%", "%25")
		case "query":
			r.RawQuery += "&x=1"
		case "host":
			r.Host += "x"
		case "body":
			hash = hashOf(d.body + "x")
		case "header":
			names := slices.DeleteFunc([]string{"X-Amz-Client-Context", "X-Amz-Log-Type", "X-Other", "X-Amz-Date"}, func(n string) bool { return r.Header[n] == nil })
			if len(names) == 0 {
				return
			}
			name := rapid.SampledFrom(names).Draw(t, "name")
			if name == "X-Amz-Date" {
				r.Header[name] = []string{"20150830T123601Z"}
			} else {
				r.Header[name] = append(slices.Clone(r.Header[name]), "x")
			}
		case "key":
			key[31]++
		case "time":
			r.RawQuery = strings.Replace(r.RawQuery, "20150830T123600Z", "20150830T123601Z", 1)
			r.Header["X-Amz-Date"] = []string{"20150830T123601Z"}
		}
		claim, err := sigv4.Parse(r)
		if err != nil {
			return
		}
		if claim.Verify(r, &key, hash) == nil {
			t.Fatalf("verified: %+v", r)
		}
	})
}

// TestAcceptsOlderForms verifies requests of clients that write the path in
// another way before they sign it.
func TestAcceptsOlderForms(t *testing.T) {
	for _, tc := range []struct{ sent, signed string }{
		{"/f/arn%3Aaws%3Alambda", "/f/arn%253Aaws%253Alambda"}, // the rule
		{"/f/arn%3Aaws%3Alambda", "/f/arn%3Aaws%3Alambda"},     // as it was sent
		{"/f/arn:aws:lambda", "/f/arn:aws:lambda"},             // not encoded at all
		{"/f/arn:aws:lambda", "/f/arn%3Aaws%3Alambda"},         // encoded once
		{"/f/a%24b:c", "/f/a%24b%3Ac"},                         // decoded, encoded once
	} {
		if !verifies(tc.sent, tc.signed) {
			t.Errorf("sent %s, signed as %s: refused", tc.sent, tc.signed)
		}
	}
	// A path with an encoded percent sign must not pass for one with an escape.
	if verifies("/f/a%253Ab", "/f/a%253Ab") {
		t.Error("a request for /f/a%3Ab was accepted for /f/a%253Ab")
	}
}

// verifies signs by hand a GET whose canonical path is signed.
func verifies(sent, signed string) bool {
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	canonical := "GET\n" + signed + "\n\nhost:h\n\nhost\n" + emptyHash
	key := mac(mac(mac(mac([]byte("AWS4"+secret), "20150830"), "r"), "lambda"), "aws4_request")
	signature := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/r/lambda/aws4_request\n"+hashOf(canonical)))
	r := &sigv4.Request{Method: "GET", EscapedPath: sent, Host: "h", Header: map[string][]string{
		"Date":          {"Sun, 30 Aug 2015 12:36:00 GMT"},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=k/20150830/r/lambda/aws4_request, SignedHeaders=host, Signature=" + signature},
	}}
	claim, err := sigv4.Parse(r)
	if err != nil {
		return false
	}
	derived := sigv4.SigningKey(secret, "20150830", "r", "lambda")
	return claim.Verify(r, &derived, emptyHash) == nil
}

func BenchmarkVerify(b *testing.B) {
	r, err := http.NewRequest("POST", "http://127.0.0.1:9000/2015-03-31/functions/hello/invocations", strings.NewReader(`{"a":1}`))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("X-Amz-Log-Type", "Tail")
	hash, at := hashOf(`{"a":1}`), signedAt()
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret}, r, hash, "lambda", "r", at); err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Length", "7")
	request := &sigv4.Request{Method: r.Method, EscapedPath: r.URL.EscapedPath(), Host: r.Host, Header: r.Header}
	key := sigv4.SigningKey(secret, "20150830", "r", "lambda")
	b.ReportAllocs()
	for b.Loop() {
		claim, err := sigv4.Parse(request)
		if err != nil {
			b.Fatal(err)
		}
		if err := claim.Check(at, "r", "lambda"); err != nil {
			b.Fatal(err)
		}
		if err := claim.Verify(request, &key, hash); err != nil {
			b.Fatal(err)
		}
	}
}
