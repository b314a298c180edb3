#!/bin/sh
# k8s.io/apimachinery 0.37.2: the converter that makes a typed object of an untyped one, which kube-apiserver ends a strategic merge patch with, keeps the low 32 bits of a whole
# number that is longer than its field, and says nothing, with its strict validation too: `replicas: 4294967298` becomes 2, -4294967196 becomes 100. The JSON
# decoder of the same library refuses the same object, so that what is an error in a create is another number in a patch. Seen 2026-12.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module finding

go 1.26.0

require (
	k8s.io/api v0.37.2
	k8s.io/apimachinery v0.37.2
)
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
)

func main() {
	for _, text := range []string{`{"spec":{"replicas":4294967298}}`, `{"spec":{"replicas":-4294967196}}`} {
		var untyped map[string]any
		if err := json.Unmarshal([]byte(text), &untyped); err != nil {
			panic(err)
		}
		var converted, decoded appsv1.Deployment
		err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(untyped, &converted, true)
		fmt.Printf("converted: replicas %d, error %v; decoded: refused %v\n", *converted.Spec.Replicas, err, json.Unmarshal([]byte(text), &decoded) != nil)
	}
}
GO
GOFLAGS=-mod=mod go mod tidy > /dev/null 2>&1
GOFLAGS=-mod=mod go run . > said
cat said
# Expected, as seen:
#   converted: replicas 2, error <nil>; decoded: refused true
#   converted: replicas 100, error <nil>; decoded: refused true
test "$(cat said)" = "converted: replicas 2, error <nil>; decoded: refused true
converted: replicas 100, error <nil>; decoded: refused true"
