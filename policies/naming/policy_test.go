package main

import (
	"strings"
	"testing"

	"naming/postern"
)

func TestWhatIsMadeIsCalledAsAgreed(t *testing.T) {
	settings := Settings{Names: []Agreement{{Resources: []string{"namespaces"}, Pattern: "(^|-)shop-"}}}
	if err := policy.Configure(&settings); err != nil {
		t.Fatal(err)
	}
	said := func(verb, name, body string) string {
		request := postern.NewRequest(postern.Operation{Verb: verb, Resource: "namespaces", Name: name}, nil)
		if body != "" {
			request.Body = postern.NewDocument(body)
		}
		return policy.OnRequest(request, &settings).Kind()
	}
	for _, made := range []struct{ verb, name, body, kind string }{
		{"create", "", `{"metadata": {"name": "shop-web"}}`, "allow"},
		{"create", "", `{"metadata": {"name": "web"}}`, "block"},
		{"create", "", `{"metadata": {"generateName": "shop-"}}`, "allow"},
		{"create", "", `{"metadata": {"generateName": "` + strings.Repeat("x", 58) + `-shop-"}}`, "block"},
		{"create", "", `{"metadata": {}}`, "block"},
		{"create", "", "", "block"},
		{"patch", "web", `{}`, "block"},
	} {
		if kind := said(made.verb, made.name, made.body); kind != made.kind {
			t.Errorf("%v: %s", made, kind)
		}
	}
	postern.Around[postern.Stored] = postern.NewDocument(`{}`)
	if kind := said("patch", "web", `{}`); kind != "allow" {
		t.Errorf("what is there keeps its name: %s", kind)
	}
}
