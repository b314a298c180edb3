//go:build !wasip1

// What the host offers, where there is none: for `go test`.

package postern

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Document is a Kubernetes object. Paths are JSONPath: names, indexes, wildcards, descendants.
type Document struct{ text string }

// NewDocument is a document for a test, of JSON.
func NewDocument(text string) *Document { return &Document{text} }

// Around has what Request.Around gives in a test, and Annotations what was annotated.
var (
	Around      = map[Surrounding]*Document{}
	Annotations = map[string]string{}
	counted     = map[string]uint64{}
)

func lookAround(which Surrounding) *Document { return Around[which] }

func annotate(key, value string) { Annotations[key] = value }

// count knows no time: what was counted in a test was counted in the last seconds.
func count(key string, amount uint64, _ uint32) uint64 {
	counted[key] += amount
	return counted[key]
}

// JSON is the whole object.
func (d *Document) JSON() string { return d.text }

// Size is how many bytes it came in.
func (d *Document) Size() uint64 { return uint64(len(d.text)) }

func (d *Document) get(path string) (string, bool) {
	found := d.selected(path)
	if len(found) == 0 {
		return "", false
	}
	return found[0].Value, true
}

type node struct {
	path  string
	value any
}

func (d *Document) selected(path string) []Pair {
	var value any
	if err := json.Unmarshal([]byte(d.text), &value); err != nil {
		panic(err)
	}
	nodes := []node{{"$", value}}
	rest, is := strings.CutPrefix(path, "$")
	for is && rest != "" {
		nodes, rest, is = step(nodes, rest)
	}
	if !is {
		panic(fmt.Sprintf("%q is no path", path))
	}
	found := make([]Pair, len(nodes))
	for i, node := range nodes {
		text, _ := json.Marshal(node.value)
		found[i] = Pair{node.path, string(text)}
	}
	return found
}

// step goes one step of a path: `.name`, `['name']`, `[0]`, `.*`, `[*]`, and each of them behind `..`.
func step(nodes []node, path string) ([]node, string, bool) {
	rest := path
	if after, is := strings.CutPrefix(rest, ".."); is {
		rest = after
		if !strings.HasPrefix(rest, "[") {
			rest = "." + rest
		}
		all := []node{}
		for _, node := range nodes {
			all = append(all, descendants(node)...)
		}
		nodes = all
	}
	name, index, rest, is := selector(rest)
	if !is {
		return nil, "", false
	}
	var next []node
	for _, node := range nodes {
		for _, child := range children(node) {
			last := child.path[len(node.path):]
			if name == "*" || name != "" && last == "['"+name+"']" || index != "" && last == "["+index+"]" {
				next = append(next, child)
			}
		}
	}
	return next, rest, true
}

// selector is the name, or the index, that a path begins with, and the rest.
func selector(path string) (name, index, rest string, is bool) {
	if after, is := strings.CutPrefix(path, "."); is {
		end := strings.IndexAny(after, ".[")
		if end < 0 {
			end = len(after)
		}
		return after[:end], "", after[end:], end > 0
	}
	inner, is := strings.CutPrefix(path, "[")
	if !is {
		return "", "", "", false
	}
	if quoted, is := strings.CutPrefix(inner, "'"); is {
		name, rest, is = strings.Cut(quoted, "']")
		return name, "", rest, is
	}
	inner, rest, is = strings.Cut(inner, "]")
	if inner == "*" {
		return "*", "", rest, is
	}
	_, err := strconv.Atoi(inner)
	return "", inner, rest, is && err == nil
}

func children(of node) []node {
	var made []node
	switch value := of.value.(type) {
	case map[string]any:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			made = append(made, node{of.path + "['" + name + "']", value[name]})
		}
	case []any:
		for i, item := range value {
			made = append(made, node{fmt.Sprintf("%s[%d]", of.path, i), item})
		}
	}
	return made
}

func descendants(of node) []node {
	all := []node{of}
	for _, child := range children(of) {
		all = slices.Concat(all, descendants(child))
	}
	return all
}
