#!/bin/sh
# k8s.io/streaming v0.37.2 (kube-apiserver 1.37 tells logs over WebSocket with it): wsstream's Reader sends nothing of a read that returns data together with
# io.EOF, which io.Reader allows and the body of a net/http answer with a Content-Length does. A log that is short and ended comes to a browser as an empty stream that closes without error;
# of a longer one the last piece is gone. The same log over plain HTTP is whole. Seen 2026-11: plain 14 bytes, WebSocket 0 bytes after the empty first message.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

func main() {
	// What a node answers: a short log, so with a Content-Length.
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "one line of it")
	}))
	fetch := func() io.Reader {
		answer, err := http.Get(node.URL)
		if err != nil {
			panic(err)
		}
		return answer.Body
	}
	plain, err := io.ReadAll(fetch())
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// As responsewriters.StreamObject does it.
		fmt.Println("ended with", wsstream.NewReader(fetch(), true, wsstream.NewDefaultReaderProtocols()).Copy(w, r))
	}))
	ws, err := websocket.Dial(strings.Replace(server.URL, "http", "ws", 1), "", "http://localhost")
	if err != nil {
		panic(err)
	}
	total := 0
	for {
		var message []byte
		if err := websocket.Message.Receive(ws, &message); err != nil {
			break
		}
		total += len(message)
	}
	server.Close()
	fmt.Println("plain", len(plain), "websocket", total)
}
GO
export GOFLAGS=-mod=mod
go mod init finding >/dev/null 2>&1
go get k8s.io/streaming@v0.37.2 golang.org/x/net >/dev/null 2>&1
go run . > out
cat out
expected='ended with <nil>
plain 14 websocket 0'
[ "$(cat out)" = "$expected" ] || { echo "it changed"; exit 1; }
