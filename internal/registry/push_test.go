package registry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// What was pushed can be pulled, before and after a restart.
func TestPushPull(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("team/app")
	img := randomImage(t, 5)
	if err := crane.Push(img, rg.host+"/team/app:v1", crane.WithAuth(rg.login(rg.Client))); err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, ref := range []string{"team/app:v1", "team/app@" + want.String()} {
			got, err := remote.Image(rg.ref(ref), rg.remote()...)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := got.Digest(); err != nil || d != want {
				t.Errorf("%s is %v, %v; want %v", ref, d, err, want)
			}
			if err := validate.Image(got); err != nil {
				t.Error(err)
			}
		}
		rg = rg.again()
	}
	tags, err := crane.ListTags(rg.host+"/team/app", crane.WithAuth(rg.login(rg.Client)))
	if err != nil || strings.Join(tags, ",") != "v1" {
		t.Errorf("tags %v, %v", tags, err)
	}
	catalog, err := crane.Catalog(rg.host, crane.WithAuth(rg.login(rg.Client)))
	if err != nil || strings.Join(catalog, ",") != "team/app" {
		t.Errorf("catalog %v, %v", catalog, err)
	}
}

// An index is pushed with its images, and copies to another repository mount
// what is there.
func TestIndexAndMount(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("one")
	rg.repo("two")
	var index v1.ImageIndex = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: forHost(t, randomImage(t, 2), arch), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := remote.WriteIndex(rg.ref("one:multi"), index, rg.remote()...); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(rg.ref("one:multi"), rg.remote()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	counting := &countingTransport{}
	auth := crane.WithAuth(rg.login(rg.Client))
	if err := crane.Copy(rg.host+"/one:multi", rg.host+"/two:multi", auth, crane.WithTransport(counting)); err != nil {
		t.Fatal(err)
	}
	if counting.patches != 0 {
		t.Errorf("%d blobs were uploaded that could be mounted", counting.patches)
	}
	// The images of an index cannot be deleted under it.
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	child := manifest.Manifests[0].Digest.String()
	name := "one"
	out, err := rg.BatchDeleteImage(t.Context(), &ecr.BatchDeleteImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageDigest: &child}}})
	if err != nil || len(out.Failures) != 1 || out.Failures[0].FailureCode != types.ImageFailureCodeImageReferencedByManifestList {
		t.Errorf("got %+v, %v", out, err)
	}
}

// countingTransport counts uploads.
type countingTransport struct{ patches int }

func (c *countingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPatch {
		c.patches++
	}
	return http.DefaultTransport.RoundTrip(req)
}

// errorCode reads the first code of an answer.
func errorCode(t *testing.T, res *http.Response) string {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &body); err != nil || len(body.Errors) != 1 {
		t.Fatalf("status %d: %q is no answer: %v", res.StatusCode, data, err)
	}
	if body.Errors[0].Message == "" {
		t.Errorf("no message in %q", data)
	}
	return body.Errors[0].Code
}

func expect(t *testing.T, res *http.Response, status int) *http.Response {
	t.Helper()
	if res.StatusCode != status {
		data, _ := io.ReadAll(res.Body)
		t.Fatalf("%s %s: status %d, want %d: %s", res.Request.Method, res.Request.URL.Path, res.StatusCode, status, data)
	}
	return res
}

func digestOf(data []byte) string {
	d, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		panic(err) // of a reader of memory
	}
	return d.String()
}

// Each way of uploading a blob, and what can go wrong with it.
func TestUploads(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	begin := func() string {
		t.Helper()
		return expect(t, rg.do("POST", "/v2/app/blobs/uploads/", nil), http.StatusAccepted).Header.Get("Location")
	}
	check := func(data []byte) {
		t.Helper()
		res := expect(t, rg.do("GET", "/v2/app/blobs/"+digestOf(data), nil), http.StatusOK)
		if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %q, %v", got, err)
		}
	}
	t.Run("monolithic", func(t *testing.T) {
		data := []byte("in one request")
		res := expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), data), http.StatusCreated)
		if got := res.Header.Get("Location"); got != "/v2/app/blobs/"+digestOf(data) {
			t.Errorf("Location %q", got)
		}
		check(data)
	})
	t.Run("post and put", func(t *testing.T) {
		data := []byte("in two requests")
		expect(t, rg.do("PUT", begin()+"?digest="+digestOf(data), data), http.StatusCreated)
		check(data)
	})
	t.Run("chunks", func(t *testing.T) {
		data := []byte("first,second,third")
		at := begin()
		res := expect(t, rg.do("PATCH", at, data[:6], "Content-Range", "0-5"), http.StatusAccepted)
		if got := res.Header.Get("Range"); got != "0-5" {
			t.Errorf("Range %q", got)
		}
		expect(t, rg.do("PATCH", at, data[13:], "Content-Range", "13-17"), http.StatusRequestedRangeNotSatisfiable)
		expect(t, rg.do("PATCH", at, data[6:13], "Content-Range", "6-12"), http.StatusAccepted)
		res = expect(t, rg.do("GET", at, nil), http.StatusNoContent)
		if got := res.Header.Get("Range"); got != "0-12" {
			t.Errorf("Range %q", got)
		}
		expect(t, rg.do("PUT", at+"?digest="+digestOf(data), data[13:]), http.StatusCreated)
		check(data)
		if code := errorCode(t, expect(t, rg.do("GET", at, nil), http.StatusNotFound)); code != "BLOB_UPLOAD_UNKNOWN" {
			t.Error(code)
		}
	})
	t.Run("wrong digest", func(t *testing.T) {
		at := begin()
		if code := errorCode(t, expect(t, rg.do("PUT", at+"?digest="+digestOf([]byte("x")), []byte("y")), http.StatusBadRequest)); code != "DIGEST_INVALID" {
			t.Error(code)
		}
		expect(t, rg.do("HEAD", "/v2/app/blobs/"+digestOf([]byte("y")), nil), http.StatusNotFound)
		expect(t, rg.do("GET", at, nil), http.StatusNotFound)
	})
	t.Run("cancel", func(t *testing.T) {
		at := begin()
		expect(t, rg.do("DELETE", at, nil), http.StatusNoContent)
		expect(t, rg.do("PATCH", at, []byte("x")), http.StatusNotFound)
	})
	t.Run("of another repository", func(t *testing.T) {
		rg.repo("other")
		at := strings.Replace(begin(), "/app/", "/other/", 1)
		expect(t, rg.do("PATCH", at, []byte("x")), http.StatusNotFound)
	})
	t.Run("mount", func(t *testing.T) {
		data := []byte("to be mounted")
		expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), data), http.StatusCreated)
		expect(t, rg.do("HEAD", "/v2/other/blobs/"+digestOf(data), nil), http.StatusNotFound)
		expect(t, rg.do("POST", "/v2/other/blobs/uploads/?from=nowhere&mount="+digestOf(data), nil), http.StatusAccepted)
		expect(t, rg.do("POST", "/v2/other/blobs/uploads/?from=app&mount="+digestOf(data), nil), http.StatusCreated)
		expect(t, rg.do("HEAD", "/v2/other/blobs/"+digestOf(data), nil), http.StatusOK)
	})
	t.Run("range", func(t *testing.T) {
		data := []byte("0123456789")
		expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), data), http.StatusCreated)
		res := expect(t, rg.do("GET", "/v2/app/blobs/"+digestOf(data), nil, "Range", "bytes=3-5"), http.StatusPartialContent)
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != "345" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("delete", func(t *testing.T) {
		data := []byte("to be deleted")
		expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(data), data), http.StatusCreated)
		expect(t, rg.do("DELETE", "/v2/app/blobs/"+digestOf(data), nil), http.StatusAccepted)
		expect(t, rg.do("DELETE", "/v2/app/blobs/"+digestOf(data), nil), http.StatusNotFound)
	})
}

// What is refused, with the codes of the specification.
func TestRefused(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	rg.push("app:v1")
	big := bytes.Repeat([]byte(" "), 5<<20)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/v2/absent/blobs/uploads/", "", 404, "NAME_UNKNOWN"},
		{"PUT", "/v2/absent/manifests/v1", "{}", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/absent/manifests/v1", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/absent/tags/list", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/UPPER/tags/list", "", 400, "NAME_INVALID"},
		{"GET", "/v2/a/../app/tags/list", "", 400, "NAME_INVALID"},
		{"GET", "/v2/app/manifests/absent", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/manifests/" + digestOf(nil), "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/app/manifests/sha512:00", "", 400, "TAG_INVALID"},
		{"GET", "/v2/app/manifests/.dot", "", 400, "TAG_INVALID"},
		{"PUT", "/v2/app/manifests/v2", "no json", 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/app/manifests/v2", `{"schemaVersion":1}`, 400, "MANIFEST_INVALID"},
		{"PUT", "/v2/app/manifests/v2", string(big), 413, "SIZE_INVALID"},
		{"PUT", "/v2/app/manifests/v2", `{"config":{"digest":"` + digestOf([]byte("absent")) + `"},"layers":[]}`, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "/v2/app/manifests/v2", `{"manifests":[{"digest":"` + digestOf([]byte("absent")) + `"}]}`, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "/v2/app/manifests/" + digestOf([]byte("other")), `{"manifests":[]}`, 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/sha256:zz", "", 400, "DIGEST_INVALID"},
		{"GET", "/v2/app/blobs/" + digestOf([]byte("absent")), "", 404, "BLOB_UNKNOWN"},
		{"PATCH", "/v2/app/blobs/" + digestOf([]byte("absent")), "", 405, "UNSUPPORTED"},
		{"POST", "/v2/app/manifests/v1", "", 405, "UNSUPPORTED"},
		{"POST", "/v2/app/tags/list", "", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/", "", 405, "UNSUPPORTED"},
		{"GET", "/v2/nothing", "", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/app/tags/list?n=x", "", 400, "PAGINATION_NUMBER_INVALID"},
		{"DELETE", "/v2/app/manifests/absent", "", 404, "MANIFEST_UNKNOWN"},
		{"PUT", "/v2/app/blobs/uploads/1234?digest=" + digestOf(nil), "", 404, "BLOB_UPLOAD_UNKNOWN"},
	} {
		res := expect(t, rg.do(c.method, c.path, []byte(c.body)), c.status)
		if code := errorCode(t, res); code != c.code {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, code, c.code)
		}
	}
}

// Lists come in pages that link to each other.
func TestTagPages(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	img := randomImage(t, 1)
	for _, tag := range []string{"a", "b", "c", "d", "e"} {
		if err := remote.Write(rg.ref("app:"+tag), img, rg.remote()...); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for next := "/v2/app/tags/list?n=2"; next != ""; {
		res := expect(t, rg.do("GET", next, nil), http.StatusOK)
		var list struct{ Tags []string }
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		if len(list.Tags) > 2 {
			t.Fatalf("%d tags on a page", len(list.Tags))
		}
		got = append(got, list.Tags...)
		next, _, _ = strings.Cut(strings.TrimPrefix(res.Header.Get("Link"), "<"), ">")
	}
	if strings.Join(got, "") != "abcde" {
		t.Errorf("got %v", got)
	}
}

// What is attached to an image is found by it.
func TestReferrers(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	img := randomImage(t, 1)
	if err := remote.Write(rg.ref("app:v1"), img, rg.remote()...); err != nil {
		t.Fatal(err)
	}
	subject, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	config := []byte("{}")
	expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(config), config), http.StatusCreated)
	signature := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x.signature",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + digestOf(config) + `","size":2},"layers":[],` +
		`"annotations":{"by":"me"},"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + subject.String() + `","size":1}}`)
	res := expect(t, rg.do("PUT", "/v2/app/manifests/"+digestOf(signature), signature, "Content-Type", "application/vnd.oci.image.manifest.v1+json"), http.StatusCreated)
	if got := res.Header.Get("OCI-Subject"); got != subject.String() {
		t.Errorf("OCI-Subject %q", got)
	}
	for query, want := range map[string]int{"": 1, "?artifactType=application/x.signature": 1, "?artifactType=other": 0} {
		res := expect(t, rg.do("GET", "/v2/app/referrers/"+subject.String()+query, nil), http.StatusOK)
		var list v1.IndexManifest
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		if len(list.Manifests) != want {
			t.Errorf("%q: %d referrers", query, len(list.Manifests))
		}
		if want == 1 && (list.Manifests[0].Digest.String() != digestOf(signature) || list.Manifests[0].Annotations["by"] != "me") {
			t.Errorf("%+v", list.Manifests[0])
		}
	}
}
