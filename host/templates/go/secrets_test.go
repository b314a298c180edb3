package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestWhoSeesThem(t *testing.T) {
	get := func(groups ...string) string {
		request := postern.NewRequest(postern.Operation{
			Verb:     "get",
			Username: "ann", Groups: groups,
			APIVersion: "v1", Resource: "secrets", Namespace: "default", Name: "db",
		}, nil)
		return policy.OnRequest(request, &policy.Defaults).Kind()
	}
	if said := get("dev"); said != "mask" {
		t.Errorf("said %s", said)
	}
	if said := get("sre"); said != "allow" {
		t.Errorf("said %s", said)
	}
}
