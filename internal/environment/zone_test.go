package environment

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestZoneID(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "use1-az1", "eu-central-1": "euc1-az1", "ap-northeast-2": "apne2-az1", "ap-southeast-4": "apse4-az1",
		"us-gov-west-1": "usgw1-az1", "sa-east-1": "sae1-az1", "eu-south-2": "eus2-az1", "cn-northwest-1": "cnnw1-az1", "mars": "mars-az1", "": "-az1",
	} {
		if got := zoneID(region); got != want {
			t.Errorf("%s: %s", region, got)
		}
	}
}

// The token among the variables opens the endpoint that they name, for the
// runtime and for extensions.
func TestMetadataVariables(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	out := w.invoke(command{Do: "environ"})
	var env []string
	must(json.Unmarshal(out.Payload, &env))
	for _, env := range [][]string{env, w.extensionVariables()} {
		vars := map[string]string{}
		for _, kv := range env {
			name, value, _ := strings.Cut(kv, "=")
			vars[name] = value
		}
		if vars["AWS_LAMBDA_METADATA_API"] != w.box.APIAddr() || vars["AWS_LAMBDA_METADATA_TOKEN"] == "" {
			t.Fatalf("API %q, token %q", vars["AWS_LAMBDA_METADATA_API"], vars["AWS_LAMBDA_METADATA_TOKEN"])
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+vars["AWS_LAMBDA_METADATA_API"]+"/2026-01-15/metadata/execution-environment", nil)
		must(err)
		req.Header.Set("Authorization", "Bearer "+vars["AWS_LAMBDA_METADATA_TOKEN"])
		res, err := http.DefaultClient.Do(req)
		must(err)
		body, err := io.ReadAll(res.Body)
		must(err)
		must(res.Body.Close())
		if string(body) != `{"AvailabilityZoneID":"euc1-az1"}` {
			t.Errorf("got %s: %s", res.Status, body)
		}
	}
}
