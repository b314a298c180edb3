package main

import (
	"testing"

	"policy-name/postern"
)

// What a policy says can be tried without WebAssembly too: `go test ./...`. `postern policy test` tries cases.yaml.
func TestWhatRuns(t *testing.T) {
	run := func(argv ...string) postern.Verdict {
		request := postern.NewRequest(postern.Operation{
			Verb:       "create",
			Username:   "ann",
			APIVersion: "v1", Resource: "pods", Subresource: "exec", Namespace: "default", Name: "web",
			Command: &postern.Command{Argv: argv},
		}, nil)
		return policy.OnRequest(request, &policy.Defaults)
	}
	if said := run("ls", "/"); said.Kind() != "mask" {
		t.Errorf("said %s", said.Kind())
	}
	if said := run("sh"); said.Kind() != "require-approval" || said.Reason() != "ann runs sh in web" {
		t.Errorf("said %s: %s", said.Kind(), said.Reason())
	}
}
