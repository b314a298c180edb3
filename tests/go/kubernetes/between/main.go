// Command between relays TLS connections to an API server and keeps every byte the client sent, a file for each connection
// under DIRECTORY/passed. While DIRECTORY/hold exists the server's answers wait; while DIRECTORY/answer exists its bytes are the answer
// to everything and nothing reaches the server. What a node is asked through the API server goes to the node itself: the API server refuses to
// proxy to a loopback address.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"
)

var (
	listen     = flag.String("listen", "", "address")
	upstream   = flag.String("upstream", "", "the API server's address")
	cert       = flag.String("cert", "", "serving certificate")
	key        = flag.String("key", "", "its key")
	ca         = flag.String("ca", "", "CA of clients and of the API server")
	clientCert = flag.String("client-cert", "", "certificate shown to the API server for clients that show one")
	clientKey  = flag.String("client-key", "", "its key")
	node       = flag.String("node", "", "the node's address")
	directory  = flag.String("directory", "", "where things are kept")
)

var forNode = []byte("/api/v1/nodes/node-1/proxy")

func main() {
	flag.Parse()
	serving := must(tls.LoadX509KeyPair(*cert, *key))
	client := must(tls.LoadX509KeyPair(*clientCert, *clientKey))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must(os.ReadFile(*ca)))
	listener := must(tls.Listen("tcp", *listen, &tls.Config{
		Certificates: []tls.Certificate{serving}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, NextProtos: []string{"http/1.1"},
	}))
	for number := 0; ; number++ {
		conn, err := listener.Accept()
		if err != nil {
			log.Print(err)
			continue
		}
		go relay(conn.(*tls.Conn), fmt.Sprintf("%d-%d", os.Getpid(), number), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}, client)
	}
}

func relay(conn *tls.Conn, name string, config *tls.Config, client tls.Certificate) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	if len(conn.ConnectionState().PeerCertificates) > 0 {
		config.Certificates = []tls.Certificate{client}
	}
	passed := must(os.Create(filepath.Join(*directory, "passed", name)))
	defer passed.Close()
	var server net.Conn
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			must(passed.Write(buffer[:n]))
			said := buffer[:n]
			if method, path, _ := bytes.Cut(said[:min(n, 64)], []byte(" ")); bytes.HasPrefix(path, forNode) {
				said = append(append(bytes.Clone(method), ' '), said[len(method)+1+len(forNode):]...)
				asServer := config.Clone()
				asServer.Certificates = []tls.Certificate{client}
				if server, err = tls.Dial("tcp", *node, asServer); err != nil {
					log.Print(err)
					return
				}
				defer server.Close()
				go back(server, conn)
			}
			if answer, err := os.ReadFile(filepath.Join(*directory, "answer")); err == nil {
				conn.Write(answer)
				return
			}
			if server == nil {
				if server, err = tls.Dial("tcp", *upstream, config); err != nil {
					log.Print(err)
					return
				}
				defer server.Close()
				go back(server, conn)
			}
			if _, err := server.Write(said); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				log.Print(err)
			}
			return
		}
	}
}

func back(server net.Conn, conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		for held() {
			time.Sleep(20 * time.Millisecond)
		}
		if n > 0 {
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func held() bool {
	_, err := os.Stat(filepath.Join(*directory, "hold"))
	return err == nil
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
