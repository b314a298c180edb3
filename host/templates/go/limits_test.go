package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestTheOneOverTheLimit(t *testing.T) {
	create := func() postern.Verdict {
		request := postern.NewRequest(postern.Operation{
			Verb:       "create",
			Username:   "ann",
			APIVersion: "v1", Resource: "configmaps", Namespace: "default",
		}, nil)
		return policy.OnRequest(request, &Settings{PerMinute: 1})
	}
	if said := create(); said.Kind() != "allow" {
		t.Errorf("said %s", said.Kind())
	}
	if said := create(); said.Kind() != "block" {
		t.Errorf("said %s", said.Kind())
	}
}
