#!/bin/sh
# sigs.k8s.io/yaml v1.6.0, which kube-apiserver and kubectl read YAML with: valid JSON given to it as YAML (YAML 1.2 calls itself a superset of JSON) comes
# back with another value. U+0085 (NEXT LINE), which JSON lets stand unescaped in a string, is folded into a space, as a line end in YAML 1.1 is.
# encoding/json keeps the same bytes. An object with such a character is stored in one way when it is sent as application/json and in another
# when it is sent as application/yaml or application/apply-patch+yaml. Seen 2026-11: "x\u0085y" becomes "x y".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

func main() {
	document := []byte("{\"key\": \"x\u0085y\"}")
	var asJSON, asYAML map[string]string
	if err := json.Unmarshal(document, &asJSON); err != nil {
		panic(err)
	}
	if err := yaml.UnmarshalStrict(document, &asYAML); err != nil {
		panic(err)
	}
	fmt.Printf("json %+q\nyaml %+q\n", asJSON["key"], asYAML["key"])
}
GO
export GOFLAGS=-mod=mod
go mod init finding >/dev/null 2>&1
go get sigs.k8s.io/yaml@v1.6.0 >/dev/null 2>&1
go run . > out
cat out
expected='json "x\u0085y"
yaml "x y"'
[ "$(cat out)" = "$expected" ] || { echo "it changed"; exit 1; }
