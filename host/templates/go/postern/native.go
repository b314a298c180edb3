//go:build !wasip1

// What the host offers, where there is none: for `go test`.

package postern

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Operation is one that a test asks about. What there is not is empty.
type Operation struct {
	Verb, APIGroup, APIVersion, Resource, Subresource, Namespace, Name string
	Path, Cluster, ID                                                  string
	Username, Issuer                                                   string
	Groups                                                             []string
	// Claims are verified claims, each value as JSON text.
	Claims  []Pair
	Query   []Pair
	Command *Command
	DryRun  bool
	// Approved is whether approvals were given.
	Approved bool
	// ReceivedAt is in Unix milliseconds.
	ReceivedAt uint64
}

// NewRequest is a request for a test; body is nil where there is none.
func NewRequest(of Operation, body *Document) *Request {
	return &Request{Caller: Caller{operation{&of}}, Body: body, asked: operation{&of}}
}

// operation answers what the host would.
type operation struct{ of *Operation }

func position[T any](list []T, fits func(T) bool) (int, bool) {
	at := slices.IndexFunc(list, fits)
	return max(at, 0), at >= 0
}

func (o operation) text(what Text) (string, bool) {
	of := o.of
	join := func(one, other string, both bool) string {
		if both {
			return one + "/" + other
		}
		return one
	}
	text := [...]string{
		of.Verb, join(of.Resource, of.Subresource, of.Subresource != ""), of.APIGroup, of.APIVersion, of.Resource, of.Subresource, of.Namespace, of.Name,
		join(of.Namespace, of.Name, of.Namespace != "" || of.Name != ""), of.Path, of.Cluster, of.Username, of.Issuer, "",
	}[what]
	switch what {
	case TextContainer:
		if of.Command == nil {
			return "", false
		}
		text = of.Command.Container
	case TextAPIGroup, TextAPIVersion:
		return text, of.Resource != ""
	case TextVerb, TextPath, TextCluster, TextUsername, TextIssuer:
		return text, true
	}
	return text, text != ""
}

func (o operation) inGroups(anyOf []string) (int, bool) {
	return position(anyOf, func(group string) bool { return slices.Contains(o.of.Groups, group) })
}

func (o operation) is(what Text, anyOf []string) (int, bool) {
	text, has := o.text(what)
	return position(anyOf, func(one string) bool { return has && one == text })
}

func (o operation) like(what Text, globs []string) (int, bool) {
	text, has := o.text(what)
	return position(globs, func(glob string) bool { return has && matches(glob, text) })
}

func (o operation) queryLike(key string, globs []string) (int, bool) {
	values := o.query(key)
	return position(globs, func(glob string) bool {
		return slices.ContainsFunc(values, func(value string) bool { return matches(glob, value) })
	})
}

func (o operation) claimIs(name string, anyOf []string) (int, bool) {
	text, has := o.claim(name)
	return position(anyOf, func(one string) bool { return has && same(one, text) })
}

func (o operation) claimHas(name string, anyOf []string) (int, bool) {
	text, has := o.claim(name)
	var elements []json.RawMessage
	has = has && json.Unmarshal([]byte(text), &elements) == nil
	return position(anyOf, func(one string) bool {
		return has && slices.ContainsFunc(elements, func(element json.RawMessage) bool { return same(one, string(element)) })
	})
}

func (o operation) at(windows []Window, period uint32, offset int32) (int, bool) {
	now := int64(o.of.ReceivedAt/1000) + int64(offset)
	if period > 0 {
		now = (now%int64(period) + int64(period)) % int64(period)
	}
	return position(windows, func(window Window) bool {
		if period > 0 && (window.From >= uint64(period) || window.Until > uint64(period)) {
			panic("a window goes beyond its period")
		}
		// Before 1970 nothing has begun.
		begun, ended := now >= 0 && uint64(now) >= window.From, now >= 0 && uint64(now) >= window.Until
		if period > 0 && window.Until < window.From {
			return begun || !ended
		}
		return begun && !ended
	})
}

func (o operation) has(what Text) bool {
	_, has := o.text(what)
	return has
}

func (o operation) get(what Text) string {
	text, _ := o.text(what)
	return text
}

func (o operation) claim(name string) (string, bool) {
	var found []string
	for _, claim := range o.of.Claims {
		if claim.Key == name {
			found = append(found, claim.Value)
		}
	}
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

func (o operation) query(key string) []string {
	var values []string
	for _, parameter := range o.of.Query {
		if parameter.Key == key {
			values = append(values, parameter.Value)
		}
	}
	return values
}

func (o operation) dryRun() bool       { return o.of.DryRun }
func (o operation) approved() bool     { return o.of.Approved }
func (o operation) isCommand() bool    { return o.of.Command != nil }
func (o operation) command() *Command  { return o.of.Command }
func (o operation) receivedAt() uint64 { return o.of.ReceivedAt }
func (o operation) id() string         { return o.of.ID }
func (o operation) groups() []string   { return o.of.Groups }
func (o operation) claims() []Pair     { return o.of.Claims }
func (o operation) queries() []Pair    { return o.of.Query }

func (o operation) spend(name string, amount uint64, windowSeconds uint32, limits []uint64) int {
	spent := count(fmt.Sprintf("spent %q %q %s", o.of.Issuer, o.of.Username, name), amount, windowSeconds)
	over := 0
	for _, limit := range limits {
		if spent > limit {
			over++
		}
	}
	return over
}

// matches is whether a text is that, in which stars stand for anything.
func matches(glob, text string) bool {
	parts := strings.Split(glob, "*")
	if len(parts) == 1 {
		return glob == text
	}
	begin, end := parts[0], parts[len(parts)-1]
	if len(text) < len(begin)+len(end) || !strings.HasPrefix(text, begin) || !strings.HasSuffix(text, end) {
		return false
	}
	rest := text[len(begin) : len(text)-len(end)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, is := strings.Cut(rest, part)
		if !is {
			return false
		}
		rest = after
	}
	return true
}

// valueOf is a JSON text with numbers in one form: those that are the same are written the same.
func valueOf(text string) *any {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	value = oneForm(value)
	return &value
}

func oneForm(value any) any {
	switch value := value.(type) {
	case json.Number:
		if number, is := new(big.Rat).SetString(value.String()); is {
			return number.RatString()
		}
	case []any:
		for i := range value {
			value[i] = oneForm(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = oneForm(value[key])
		}
	}
	return value
}

// same is whether two JSON texts are the same value.
func same(one, other string) bool {
	a, b := valueOf(one), valueOf(other)
	return a != nil && b != nil && reflect.DeepEqual(*a, *b)
}

func (d *Document) is(path string, anyOf []string) (int, bool) {
	found := d.selected(path)
	return position(anyOf, func(one string) bool {
		return slices.ContainsFunc(found, func(match Pair) bool { return same(one, match.Value) })
	})
}

func (d *Document) matches(path string) int { return len(d.selected(path)) }

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
