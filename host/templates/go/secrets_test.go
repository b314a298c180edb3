package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestWhoSeesThem(t *testing.T) {
	get := func(groups ...string) string {
		request := &postern.Request{Operation: postern.Operation{
			Verb:   "get",
			Caller: postern.Caller{Username: "ann", Groups: groups},
			Target: &postern.Target{APIVersion: "v1", Resource: "secrets", Namespace: "default", Name: "db"},
		}}
		return policy.OnRequest(request, &policy.Defaults).Kind()
	}
	if said := get("dev"); said != "mask" {
		t.Errorf("said %s", said)
	}
	if said := get("sre"); said != "allow" {
		t.Errorf("said %s", said)
	}
}
