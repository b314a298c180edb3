package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestWhoMayDelete(t *testing.T) {
	delete := func(groups ...string) postern.Verdict {
		request := postern.NewRequest(postern.Operation{
			Verb:     "delete",
			Username: "ann", Groups: groups,
			APIVersion: "v1", Resource: "pods", Namespace: "default", Name: "web",
		}, nil)
		return policy.OnRequest(request, &Settings{Groups: []string{"sre"}})
	}
	if said := delete("dev"); said.Kind() != "block" || said.Reason() != "ann may not delete" {
		t.Errorf("said %s: %s", said.Kind(), said.Reason())
	}
	if said := delete("dev", "sre"); said.Kind() != "allow" {
		t.Errorf("said %s: %s", said.Kind(), said.Reason())
	}
}
