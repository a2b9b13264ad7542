package sigv4_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sigv4"
)

const (
	secret    = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// signedAt is the time of AWS's published examples.
func signedAt() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) }

// TestPublishedExamples verifies the requests that AWS publishes with their
// signatures: the first of the signature test suite, and the one of the
// General Reference.
func TestPublishedExamples(t *testing.T) {
	key := sigv4.SigningKey(secret, "20150830", "us-east-1", "iam")
	if got := hex.EncodeToString(key[:]); got != "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9" {
		t.Errorf("signing key %s", got)
	}
	for _, tc := range []struct {
		service string
		request sigv4.Request
	}{
		{"service", sigv4.Request{Method: "GET", EscapedPath: "/", Host: "example.amazonaws.com", Header: map[string][]string{
			"X-Amz-Date": {"20150830T123600Z"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, " +
				"SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		}}},
		{"iam", sigv4.Request{Method: "GET", EscapedPath: "/", RawQuery: "Action=ListUsers&Version=2010-05-08", Host: "iam.amazonaws.com", Header: map[string][]string{
			"X-Amz-Date":   {"20150830T123600Z"},
			"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request,SignedHeaders=content-type;host;x-amz-date," +
				"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
		}}},
	} {
		claim, err := sigv4.Parse(&tc.request)
		if err != nil {
			t.Fatal(err)
		}
		if claim.AccessKeyID != "AKIDEXAMPLE" || !claim.Time.Equal(signedAt()) || claim.Presigned {
			t.Errorf("claim %+v", claim)
		}
		if err := claim.Check(signedAt().Add(time.Minute), "us-east-1", tc.service); err != nil {
			t.Error(err)
		}
		key := sigv4.SigningKey(secret, claim.Date, claim.Region, claim.Service)
		if err := claim.Verify(&tc.request, &key, emptyHash); err != nil {
			t.Errorf("%s: %v", tc.service, err)
		}
		key[0]++
		if err := claim.Verify(&tc.request, &key, emptyHash); firn.KindOf(err) != firn.InvalidSignature {
			t.Errorf("%s with another key: %v", tc.service, err)
		}
	}
}

// TestRefusals has AWS's answer to each claim that is not acceptable.
func TestRefusals(t *testing.T) {
	const (
		scope = "AKIDEXAMPLE/20150830/us-east-1/lambda/aws4_request"
		tail  = ", SignedHeaders=host;x-amz-date, Signature=00"
	)
	header := func(auth, date string) sigv4.Request {
		h := map[string][]string{}
		if auth != "" {
			h["Authorization"] = []string{auth}
		}
		if date != "" {
			h["X-Amz-Date"] = []string{date}
		}
		return sigv4.Request{Method: "GET", EscapedPath: "/", Host: "h", Header: h}
	}
	query := func(q string) sigv4.Request {
		return sigv4.Request{Method: "GET", EscapedPath: "/", Host: "h", RawQuery: q}
	}
	presigned := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + strings.ReplaceAll(scope, "/", "%2F") +
		"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
	const date = "20150830T123600Z"
	for _, tc := range []struct {
		name    string
		request sigv4.Request
		after   time.Duration // of the server's clock after the request's
		kind    firn.Kind
		message string
	}{
		{"none", header("", date), 0, firn.MissingAuthentication, "Missing Authentication Token"},
		{"other scheme", header("Bearer x", date), 0, firn.IncompleteSignature, "Authorization header requires 'Credential' parameter."},
		{"other algorithm", header("AWS4-ECDSA-P256-SHA256 Credential="+scope+tail, date), 0, firn.IncompleteSignature, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'."},
		{"no signature", header("AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=host", date), 0, firn.IncompleteSignature, "Authorization header requires 'Signature' parameter."},
		{"no date", header("AWS4-HMAC-SHA256 Credential="+scope+tail, ""), 0, firn.IncompleteSignature, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		{"bad date", header("AWS4-HMAC-SHA256 Credential="+scope+tail, "yesterday"), 0, firn.IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got 'yesterday'."},
		{"short credential", header("AWS4-HMAC-SHA256 Credential=a/b/c/d"+tail, date), 0, firn.IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'"},
		{"terminator", header("AWS4-HMAC-SHA256 Credential=k/20150830/us-east-1/lambda/aws3"+tail, date), 0, firn.InvalidSignature, "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws3'."},
		{"host not signed", header("AWS4-HMAC-SHA256 Credential="+scope+", SignedHeaders=x-amz-date, Signature=00", date), 0, firn.InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		{"expired", header("AWS4-HMAC-SHA256 Credential="+scope+tail, date), 5*time.Minute + time.Second, firn.InvalidSignature, "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{"early", header("AWS4-HMAC-SHA256 Credential="+scope+tail, date), -5*time.Minute - time.Second, firn.InvalidSignature, "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
		{"other day", header("AWS4-HMAC-SHA256 Credential=k/20150829/us-east-1/lambda/aws4_request"+tail, date), 0, firn.InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'."},
		{"region", header("AWS4-HMAC-SHA256 Credential=k/20150830/mars/lambda/aws4_request"+tail, date), 0, firn.InvalidSignature, "Credential should be scoped to a valid region."},
		{"service", header("AWS4-HMAC-SHA256 Credential=k/20150830/us-east-1/s3/aws4_request"+tail, date), 0, firn.InvalidSignature, "Credential should be scoped to correct service: 'lambda'."},
		{"presigned, incomplete", query("X-Amz-Algorithm=AWS4-HMAC-SHA256"), 0, firn.IncompleteSignature, "AWS query-string parameters must include 'X-Amz-Credential'."},
		{"presigned, algorithm", query(strings.Replace(presigned, "HMAC", "X", 1)), 0, firn.IncompleteSignature, "Unsupported AWS 'algorithm': 'AWS4-X-SHA256'."},
		{"presigned, too long", query(presigned + "&X-Amz-Expires=604801"), 0, firn.IncompleteSignature, "X-Amz-Expires must be less than a week (in seconds)"},
		{"presigned, negative", query(presigned + "&X-Amz-Expires=-1"), 0, firn.IncompleteSignature, "X-Amz-Expires must be non-negative"},
		{"presigned, no number", query(presigned + "&X-Amz-Expires=x"), 0, firn.IncompleteSignature, "X-Amz-Expires should be a number"},
		{"presigned, bad query", query(presigned + "&a=%zz"), 0, firn.IncompleteSignature, "The query string is malformed."},
		{"presigned, expired", query(presigned + "&X-Amz-Expires=60"), 62 * time.Second, firn.InvalidSignature, "Signature expired: 20150830T123600Z is now earlier than"},
		{"presigned, no life", query(presigned), 6 * time.Minute, firn.InvalidSignature, "Signature expired"},
	} {
		claim, err := sigv4.Parse(&tc.request)
		if err == nil {
			err = claim.Check(signedAt().Add(tc.after), "us-east-1", "lambda")
		}
		if firn.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%s: %v, want %s: %s", tc.name, err, tc.kind, tc.message)
		}
	}
	for _, after := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} {
		r := header("AWS4-HMAC-SHA256 Credential="+scope+tail, date)
		claim, err := sigv4.Parse(&r)
		if err == nil {
			err = claim.Check(signedAt().Add(after), "us-east-1", "lambda")
		}
		if err != nil {
			t.Errorf("%v after: %v", after, err)
		}
		if strings.Contains(claim.AccessKeyID, "/") {
			t.Errorf("access key %q", claim.AccessKeyID)
		}
	}
}

// TestSignatureForms refuses signatures that are no hash at all.
func TestSignatureForms(t *testing.T) {
	key := sigv4.SigningKey(secret, "20150830", "us-east-1", "lambda")
	for _, signature := range []string{"x", "00", strings.Repeat("0", 63), strings.Repeat("0", 64), strings.Repeat("0", 65), strings.Repeat("z", 64), strings.Repeat("é", 32)} {
		r := sigv4.Request{Method: "GET", EscapedPath: "/", Host: "h", Header: map[string][]string{
			"X-Amz-Date":    {"20150830T123600Z"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=k/20150830/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=" + signature},
		}}
		claim, err := sigv4.Parse(&r)
		if err != nil {
			t.Fatal(err)
		}
		if err := claim.Verify(&r, &key, emptyHash); firn.KindOf(err) != firn.InvalidSignature {
			t.Errorf("signature %q: %v", signature, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=k/20150830/r/s/aws4_request, SignedHeaders=host;x-a, Signature="+strings.Repeat("0", 64), "20150830T123600Z", "/a%2fb", "a=b&c")
	f.Add("", "", "/", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k%2F20150830%2Fr%2Fs%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires=1")
	f.Add("AWS4-HMAC-SHA256 Credential=//////aws4_request,SignedHeaders=;;host,Signature=%", "Sun, 30 Aug 2015 12:36:00 GMT", "", "&&%=%")
	f.Fuzz(func(t *testing.T, auth, date, path, query string) {
		r := sigv4.Request{Method: "GET", EscapedPath: path, RawQuery: query, Host: "h", Header: map[string][]string{
			"Authorization": {auth}, "X-Amz-Date": {date}, "X-A": {"  a   b "},
		}}
		claim, err := sigv4.Parse(&r)
		if err != nil {
			if firn.KindOf(err) == "" {
				t.Errorf("not a fault: %v", err)
			}
			return
		}
		if err := claim.Check(claim.Time, claim.Region, claim.Service); err != nil && claim.Time.Format("20060102") == claim.Date {
			t.Errorf("at its own time and scope: %v", err)
		}
		key := sigv4.SigningKey("guess", claim.Date, claim.Region, claim.Service)
		if claim.Verify(&r, &key, emptyHash) == nil {
			t.Error("a signature was guessed")
		}
	})
}
