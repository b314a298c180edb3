#!/bin/sh
# k8s.io/apiserver v0.37.2: the WebSocket handshake of a watch and that of a log differ. A watch is served by golang.org/x/net/websocket's Handler, which wants an
# Origin header (any; RFC 6455 4.1 asks it of browsers only) and answers 403 with no body without one. A log is served by k8s.io/streaming's Reader, which has a handshake of its
# own and takes a client without Origin. So a client that is no browser opens exec and logs over WebSocket and is told "forbidden" for a watch, with the
# same credential, and nothing says what is missing. Seen 2026-11: watch 403 without, 101 with; log 101 both times.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// status of a handshake on a fresh connection.
func status(address, path, extra string) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, extra)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		panic(err)
	}
	return response.StatusCode
}

type never struct{}

func (never) TimeoutCh() (<-chan time.Time, func() bool) {
	return nil, func() bool { return false }
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/watch", func(w http.ResponseWriter, r *http.Request) {
		// As handlers.serveWatchHandler does it.
		server := &handlers.WatchServer{Watching: watch.NewFake(), TimeoutFactory: never{}, Scope: &handlers.RequestScope{}}
		websocket.Handler(server.HandleWS).ServeHTTP(w, r)
	})
	mux.HandleFunc("/log", func(w http.ResponseWriter, r *http.Request) {
		reader := wsstream.NewReader(strings.NewReader("line\n"), true, wsstream.NewDefaultReaderProtocols())
		_ = reader.Copy(w, r)
	})
	server := httptest.NewServer(mux)
	address := server.Listener.Addr().String()
	for _, path := range []string{"/watch", "/log"} {
		fmt.Println(path, status(address, path, ""), status(address, path, "Origin: http://localhost\r\n"))
	}
}
GO
export GOFLAGS=-mod=mod
go mod init finding >/dev/null 2>&1
go get k8s.io/apiserver@v0.37.2 k8s.io/streaming@v0.37.2 k8s.io/apimachinery@v0.37.2 golang.org/x/net >/dev/null 2>&1
go run . > out
cat out
expected='/watch 403 101
/log 101 101'
[ "$(cat out)" = "$expected" ] || { echo "it changed"; exit 1; }
