package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestWhoSeesATeamsObjects(t *testing.T) {
	see := func(groups ...string) string {
		request := postern.NewRequest(postern.Operation{
			Verb:     "list",
			Username: "ann", Groups: groups,
			APIVersion: "v1", Resource: "configmaps", Namespace: "default",
		}, nil)
		object := postern.NewDocument(`{"metadata": {"name": "rates", "labels": {"team": "shop"}}}`)
		return policy.OnObject(request, object, &policy.Defaults).Kind()
	}
	if said := see("bank"); said != "block" {
		t.Errorf("said %s", said)
	}
	if said := see("shop"); said != "allow" {
		t.Errorf("said %s", said)
	}
}
