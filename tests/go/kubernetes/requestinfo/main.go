// Command requestinfo runs upstream's own RequestInfoResolver over lines of "METHOD URI" and prints what it makes of each as
// a line of tab-separated fields, or "error".
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/klog/v2"
)

func main() {
	klog.SetOutput(discard{})
	klog.LogToStderr(false)
	resolver := &request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		var method, uri string
		if _, err := fmt.Sscanf(in.Text(), "%s %s", &method, &uri); err != nil {
			fmt.Fprintln(out, "unreadable")
			continue
		}
		target, err := url.ParseRequestURI(uri)
		if err != nil {
			fmt.Fprintln(out, "unreadable")
			continue
		}
		info, err := resolver.NewRequestInfo(&http.Request{Method: method, URL: target})
		if err != nil {
			fmt.Fprintln(out, "error")
			continue
		}
		fmt.Fprintf(out, "%t\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", info.IsResourceRequest, info.Verb, info.APIPrefix, info.APIGroup,
			info.APIVersion, info.Namespace, info.Resource, info.Subresource, info.Name)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
