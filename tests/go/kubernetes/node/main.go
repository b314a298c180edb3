// Command node is a kubelet endpoint that really streams: upstream's own streaming code, with local processes for containers.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Offered v5, upstream's SPDY server panics.
var protocols = []string{"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"}

const idle = 4 * time.Hour

type node struct{}

// Directory with the environment of containers: a file NAMESPACE_POD of lines NAME=VALUE.
var environments = flag.String("environments", "", "directory with a file NAMESPACE_POD of lines NAME=VALUE for each pod that has an environment")

func (node) ExecInContainer(ctx context.Context, name, _, _ string, argv []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "HOSTNAME=testbed", "TERM=xterm"}
	if own, err := os.ReadFile(filepath.Join(*environments, name)); err == nil {
		command.Env = append(command.Env, strings.Split(strings.TrimSpace(string(own)), "\n")...)
	}
	command.Dir = "/tmp"
	if !tty {
		command.Stdout, command.Stderr = out, errOut
		// Not command.Stdin: Wait would then wait for the caller's input to end.
		if in != nil {
			stdin, err := command.StdinPipe()
			if err != nil {
				return err
			}
			go func() { io.Copy(stdin, in); stdin.Close() }()
		}
		return code(command.Run())
	}
	terminal, err := pty.Start(command)
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range resize {
			pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width})
		}
	}()
	if in != nil {
		go io.Copy(terminal, in)
	}
	io.Copy(out, terminal)
	return code(command.Wait())
}

func (n node) AttachContainer(ctx context.Context, name, uid, container string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return n.ExecInContainer(ctx, name, uid, container, []string{"cat"}, in, out, errOut, tty, resize, 0)
}

func (node) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer connection.Close()
	done := make(chan struct{}, 2)
	go func() { io.Copy(connection, stream); connection.(*net.TCPConn).CloseWrite(); done <- struct{}{} }()
	go func() { io.Copy(stream, connection); done <- struct{}{} }()
	<-done
	return nil
}

func code(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// serve answers /exec/NAMESPACE/POD/CONTAINER and its kin.
func serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 3 {
		http.NotFound(w, r)
		return
	}
	pod, container := parts[1]+"_"+parts[2], ""
	if len(parts) > 3 {
		container = parts[len(parts)-1]
	}
	switch parts[0] {
	case "exec", "attach":
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if parts[0] == "exec" {
			remotecommand.ServeExec(w, r, node{}, pod, "", container, r.URL.Query()["command"], options, idle, 30*time.Second, protocols)
		} else {
			remotecommand.ServeAttach(w, r, node{}, pod, "", container, options, idle, 30*time.Second, protocols)
		}
	case "portForward":
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, node{}, pod, "", options, idle, 30*time.Second, portforward.SupportedProtocols)
	case "carry":
		// /carry/x/y?give=N: tells how much came, and gives N bytes.
		took, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "took %d\n", took)
		give, _ := strconv.ParseInt(r.URL.Query().Get("give"), 10, 64)
		for piece := make([]byte, 64<<10); give > 0; give -= int64(len(piece)) {
			if _, err := w.Write(piece[:min(give, int64(len(piece)))]); err != nil {
				return
			}
		}
	case "containerLogs":
		w.Header().Set("Content-Type", "text/plain")
		out := &limited{w, math.MaxInt64}
		if limit, err := strconv.ParseInt(r.URL.Query().Get("limitBytes"), 10, 64); err == nil {
			out.left = limit
		}
		for line := 1; line <= 3; line++ {
			fmt.Fprintf(out, "line %d of %s, token tok-%d\n", line, parts[2], 1000+line)
		}
		if r.URL.Query().Get("follow") == "true" {
			for line := 4; out.left > 0; line++ {
				fmt.Fprintf(out, "line %d of %s, token tok-%d\n", line, parts[2], 1000+line)
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(200 * time.Millisecond):
				}
			}
		}
	default:
		http.NotFound(w, r)
	}
}

// limited writes so many bytes and no more, as the kubelet does where a log has a limitBytes.
type limited struct {
	io.Writer
	left int64
}

func (l *limited) Write(text []byte) (int, error) {
	kept := text[:min(int64(len(text)), l.left)]
	l.left -= int64(len(kept))
	if _, err := l.Writer.Write(kept); err != nil {
		return 0, err
	}
	return len(text), nil
}

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address")
	certificate, key, ca := flag.String("cert", "", "certificate"), flag.String("key", "", "key"), flag.String("client-ca", "", "CA of the API server's client certificate")
	flag.Parse()
	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	server := &http.Server{
		Addr:         *address,
		Handler:      http.HandlerFunc(serve),
		TLSConfig:    &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	log.Fatal(server.ListenAndServeTLS(*certificate, *key))
}
