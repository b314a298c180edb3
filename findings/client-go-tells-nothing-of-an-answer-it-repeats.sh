#!/bin/sh
# client-go v0.37.2 (and so kubectl 1.37), of an answer after which it repeats a request. Seen 2026-11.
#
# A server that has a client come again answers 429 with `Retry-After`. What it says beside that reaches nobody: the `Warning` headers of such an answer are not handed to
# the warning handler, which gets those of the answer that is returned in the end, nor is its Status. The request is repeated ten times, so that eleven answers come; with
# a `Retry-After` of 25 seconds that is more than four minutes in which a user sees nothing. The same 429 without `Retry-After` is returned at once, with its message.
#
# Printed: how many requests came, what the warning handler was given, and the error.
set -eu
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

type heard struct{ texts []string }

func (h *heard) HandleWarningHeader(code int, agent, text string) { h.texts = append(h.texts, text) }

func try(retryAfter string) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("Warning", `299 - "your ticket is 7"`)
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"ticket 7 waits","reason":"TooManyRequests","code":429}`)
	}))
	defer server.Close()
	listener := &heard{}
	client := kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, WarningHandler: listener})
	err := client.CoreV1().ConfigMaps("default").Delete(context.Background(), "a", metav1.DeleteOptions{})
	fmt.Printf("Retry-After %q: %d requests, %d warnings handed on, error: %v\n", retryAfter, asked, len(listener.texts), err)
}

func main() {
	try("0")
	try("")
}
GO
export GOFLAGS=-mod=mod
go mod init finding >/dev/null 2>&1
go get k8s.io/client-go@v0.37.2 k8s.io/api@v0.37.2 k8s.io/apimachinery@v0.37.2 >/dev/null 2>&1
go run . > out
cat out
expected='Retry-After "0": 11 requests, 1 warnings handed on, error: ticket 7 waits
Retry-After "": 1 requests, 1 warnings handed on, error: ticket 7 waits'
[ "$(cat out)" = "$expected" ] || { echo "it changed"; exit 1; }
