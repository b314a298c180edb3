// Package postern is what stands between the contract (wit/policy.wit) and a policy: what it is asked with, and short ways to answer.
package postern

import (
	"encoding/json"
	"slices"
)

// Pair is a key and what stands under it.
type Pair struct{ Key, Value string }

// Command is what opens a stream into a container.
type Command struct {
	// Container is empty where the choice is left to the API server.
	Container string
	// Argv are the words of the command; none for attach.
	Argv []string
	// Stdin and TTY are whether the caller sends input, and asks for a terminal.
	Stdin, TTY bool
}

// Text is one of the texts of an operation.
type Text byte

// The texts of an operation. Kind is the resource with its subresource (`pods/exec`), Place namespace and name (`NAMESPACE/NAME`). What there is not fits nothing:
// an operation over all namespaces has no namespace.
const (
	TextVerb Text = iota
	TextKind
	TextAPIGroup
	TextAPIVersion
	TextResource
	TextSubresource
	TextNamespace
	TextName
	TextPlace
	TextPath
	TextCluster
	TextUsername
	TextIssuer
	TextContainer
)

// Window is a time from its beginning until before its end, in seconds.
type Window struct{ From, Until uint64 }

// Request is an operation, its body, and what the host offers. Each method asks the host one question: what a policy did not ask, its verdict was not based on. Ask
// for as little as decides, tests before values. A list that is empty fits nothing.
type Request struct {
	// Caller is who asks.
	Caller Caller
	// Body is nil where there is none, or the policy did not ask for bodies.
	Body  *Document
	asked operation
}

// Caller is who is asking. The credential itself never crosses into a policy.
type Caller struct{ asked operation }

// mostAsked is how many entries of a list the host is asked about at once.
const mostAsked = 1000

// first asks about a list, a part of a long one at a time.
func first[T any](list []T, ask func(part []T) (int, bool)) (int, bool) {
	for begin := 0; begin < len(list); begin += mostAsked {
		if at, found := ask(list[begin:min(begin+mostAsked, len(list))]); found {
			return begin + at, true
		}
	}
	return 0, false
}

// Any has the values of a list, whatever they are, for what is compared as JSON.
func Any[T any](list []T) []any {
	values := make([]any, len(list))
	for i, value := range list {
		values[i] = value
	}
	return values
}

// values are JSON texts of what is asked about.
func values(list []any) []string {
	texts := make([]string, len(list))
	for i, value := range list {
		text, err := json.Marshal(value)
		if err != nil {
			panic("what is asked about is no JSON: " + err.Error())
		}
		texts[i] = string(text)
	}
	return texts
}

// Is is whether a text is one of these.
func (r *Request) Is(what Text, anyOf ...string) bool {
	_, is := r.Which(what, anyOf)
	return is
}

// Which is which of these a text is.
func (r *Request) Which(what Text, anyOf []string) (int, bool) {
	return first(anyOf, func(part []string) (int, bool) { return r.asked.is(what, part) })
}

// Like is the first of these that a text matches: `*` stands for any characters, for none and for `/` too.
func (r *Request) Like(what Text, globs []string) (int, bool) {
	return first(globs, func(part []string) (int, bool) { return r.asked.like(what, part) })
}

// Has is whether there is such a text.
func (r *Request) Has(what Text) bool { return r.asked.has(what) }

// Get is a text; empty where there is none.
func (r *Request) Get(what Text) string { return r.asked.get(what) }

// Verb is get, list, watch, create, update, patch, delete, deletecollection, or a lower-case HTTP method where no resource is addressed.
func (r *Request) Verb() string { return r.Get(TextVerb) }

// Resource is `pods` or `pods/exec`; empty where no resource is addressed.
func (r *Request) Resource() string { return r.Get(TextKind) }

// Namespace is that of what is addressed; empty for what has none and for lists over all of them.
func (r *Request) Namespace() string { return r.Get(TextNamespace) }

// ObjectName is that of what is addressed; empty for lists.
func (r *Request) ObjectName() string { return r.Get(TextName) }

// Path is the normalised path.
func (r *Request) Path() string { return r.Get(TextPath) }

// DryRun is whether kube-apiserver is asked to change nothing, and would obey.
func (r *Request) DryRun() bool { return r.asked.dryRun() }

// Approved is whether approvals were asked for, and given: in OnObject and OnChunk of an operation that waited.
func (r *Request) Approved() bool { return r.asked.approved() }

// IsCommand is whether it opens a stream into a container: exec and attach.
func (r *Request) IsCommand() bool { return r.asked.isCommand() }

// Command is what opens a stream into a container; nil for everything but exec and attach.
func (r *Request) Command() *Command { return r.asked.command() }

// At is the first window in which the request came, in seconds since 1970 in UTC with offset added; with a period they begin anew each time so many seconds have passed.
func (r *Request) At(windows []Window, period uint32, offset int32) (int, bool) {
	return first(windows, func(part []Window) (int, bool) { return r.asked.at(part, period, offset) })
}

// ReceivedAt is when the gateway accepted the request, in Unix milliseconds. At says less.
func (r *Request) ReceivedAt() uint64 { return r.asked.receivedAt() }

// ID is that of its audit events.
func (r *Request) ID() string { return r.asked.id() }

// IsIn is whether the caller is in one of these groups.
func (r *Request) IsIn(groups []string) bool { return r.Caller.IsIn(groups) }

// Query is the decoded query, in order.
func (r *Request) Query() []Pair { return r.asked.queries() }

// QueryValues are those of a query parameter.
func (r *Request) QueryValues(key string) []string { return r.asked.query(key) }

// QueryValue is the first value of a query parameter; empty where there is none.
func (r *Request) QueryValue(key string) string {
	if values := r.QueryValues(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// QueryLike is the first of these that any value of a query parameter matches: to refuse by one, not to let pass by it.
func (r *Request) QueryLike(key string, globs []string) (int, bool) {
	return first(globs, func(part []string) (int, bool) { return r.asked.queryLike(key, part) })
}

// Claim reads a verified claim of the caller's token. It is false where there is none, or it is of another type.
func (r *Request) Claim(name string, into any) bool { return r.Caller.Claim(name, into) }

// IsIn is whether the caller is in one of these groups.
func (c Caller) IsIn(groups []string) bool {
	_, is := c.GroupOf(groups)
	return is
}

// GroupOf is which of these groups the caller is in, the first of them.
func (c Caller) GroupOf(groups []string) (int, bool) { return first(groups, c.asked.inGroups) }

// Username is the name used for audit and for Kubernetes.
func (c Caller) Username() string { return c.asked.get(TextUsername) }

// Issuer is the verified issuer of the credential.
func (c Caller) Issuer() string { return c.asked.get(TextIssuer) }

// Groups are those that the caller's claims or certificate give. IsIn says less.
func (c Caller) Groups() []string { return c.asked.groups() }

// Claims are the verified claims of the caller's token, each value as JSON text.
func (c Caller) Claims() []Pair { return c.asked.claims() }

// Claim reads a verified claim of the caller's token. It is false where there is none, where the token has it twice, or it is of another type.
func (c Caller) Claim(name string, into any) bool {
	text, found := c.asked.claim(name)
	return found && json.Unmarshal([]byte(text), into) == nil
}

// ClaimIs is which of these values a claim is.
func (c Caller) ClaimIs(name string, anyOf []any) (int, bool) {
	return first(values(anyOf), func(part []string) (int, bool) { return c.asked.claimIs(name, part) })
}

// ClaimHas is which of these values a claim that is a list has, the first of them.
func (c Caller) ClaimHas(name string, anyOf []any) (int, bool) {
	return first(values(anyOf), func(part []string) (int, bool) { return c.asked.claimHas(name, part) })
}

// Around is one of the objects that Needs names; nil where there is none.
func (r *Request) Around(which Surrounding) *Document { return lookAround(which) }

// Annotate adds a fact to the audit event: never a secret.
func (r *Request) Annotate(key, value string) { annotate(key, value) }

// Count adds to a counter and gives back what was counted in the last windowSeconds; an amount of 0 asks without counting.
func (r *Request) Count(key string, amount uint64, windowSeconds uint32) uint64 {
	return count(key, amount, windowSeconds)
}

// Spend adds to a counter of that name that is the caller's own, and is how many of the limits, each larger than the one before, what was added in the last
// windowSeconds is over.
func (r *Request) Spend(name string, amount uint64, windowSeconds uint32, limits ...uint64) int {
	return r.asked.spend(name, amount, windowSeconds, limits)
}

// Is is which of these values any match of a path is, the first of them.
func (d *Document) Is(path string, anyOf []any) (int, bool) {
	return first(values(anyOf), func(part []string) (int, bool) { return d.is(path, part) })
}

// Matches are how many a path has.
func (d *Document) Matches(path string) int { return d.matches(path) }

// Get reads the first match of a path. It is false where there is none; a value of another type than what it is read into ends the call, and the operation is refused.
func (d *Document) Get(path string, into any) bool {
	text, found := d.get(path)
	if found {
		read(path, text, into)
	}
	return found
}

// Text is the first match of a path that is a text; empty where there is none.
func (d *Document) Text(path string) string {
	var value any
	d.Get(path, &value)
	text, _ := value.(string)
	return text
}

// Texts are all texts that a path matches.
func (d *Document) Texts(path string) []string {
	var texts []string
	for _, match := range d.Select(path) {
		var value any
		match.Into(&value)
		if text, is := value.(string); is {
			texts = append(texts, text)
		}
	}
	return texts
}

// Match is a place in an object and what stands there, as JSON.
type Match struct{ Path, JSON string }

// Into reads what stands there.
func (m Match) Into(into any) { read(m.Path, m.JSON, into) }

// Select are all matches of a path.
func (d *Document) Select(path string) []Match {
	pairs := d.selected(path)
	matches := make([]Match, len(pairs))
	for i, pair := range pairs {
		matches[i] = Match{pair.Key, pair.Value}
	}
	return matches
}

// All reads the whole object.
func (d *Document) All(into any) { read("$", d.JSON(), into) }

func read(path, text string, into any) {
	if err := json.Unmarshal([]byte(text), into); err != nil {
		panic("what stands at " + path + " is not what was expected: " + err.Error())
	}
}

// Channel is one of a stream's.
type Channel byte

// The channels of a stream, and the text of a log.
const (
	Stdin Channel = iota
	Stdout
	Stderr
	Log
)

// Surrounding is an object beside an operation that a policy may ask for.
type Surrounding byte

// The Namespace that is addressed, the object as it is stored, the pod that a stream goes to.
const (
	Namespace Surrounding = iota
	Stored
	Pod
)

// Capability is what a policy must see, or do, beyond who asks for what.
type Capability byte

// What a policy's file grants.
const (
	Bodies Capability = 1 << iota
	SecretValues
	Streams
	Counters
)

// Rule says which operations the policy is asked about; an empty list means any.
type Rule struct{ Verbs, APIGroups, Resources, Namespaces []string }

// Verdict is what a policy answers.
type Verdict struct {
	kind      byte
	reason    string
	hint      string
	approvers []string
	required  uint32
	seconds   uint32
	masks     []Masking
}

var kinds = [...]string{"allow", "mask", "block", "require-approval", "terminate"}

// Kind is what it is, in a word: allow, mask, block, require-approval or terminate.
func (v Verdict) Kind() string { return kinds[v.kind] }

// Reason is what the caller is told.
func (v Verdict) Reason() string { return v.reason }

// Allow has nothing against it.
func Allow() Verdict { return Verdict{} }

// Block refuses it, with a reason that the caller sees, and what to do instead. From OnObject: the object is hidden.
func Block(reason string, hint ...string) Verdict {
	return Verdict{kind: 2, reason: reason, hint: hintOf(hint)}
}

// Terminate ends an answer before the object that OnObject was asked about.
func Terminate(reason string, hint ...string) Verdict {
	return Verdict{kind: 4, reason: reason, hint: hintOf(hint)}
}

// RequireApproval asks for the approval of a member of these groups, within an hour.
func RequireApproval(reason string, approvers []string) Verdict {
	return Verdict{kind: 3, reason: reason, approvers: approvers, required: 1, seconds: 3600}
}

// Required is how many must approve.
func (v Verdict) Required(count uint32) Verdict {
	v.required = count
	return v
}

// ValidSeconds is how long the ticket lives.
func (v Verdict) ValidSeconds(seconds uint32) Verdict {
	v.seconds = seconds
	return v
}

// Mask hides what these name; none of them is Allow.
func Mask(masks ...Masking) Verdict {
	if len(masks) == 0 {
		return Allow()
	}
	return Verdict{kind: 1, masks: masks}
}

// Masking is what is hidden, and how it is written.
type Masking struct {
	selector byte
	what     string
	how      byte
	last     byte
	when     []condition
}

type condition struct {
	path  string
	is    byte
	value string
}

// Field is a field in every object, by JSONPath.
func Field(path string) Masking { return Masking{what: path} }

// Pattern is what a regular expression matches, in text streams and in the text of objects.
func Pattern(regex string) Masking { return Masking{selector: 1, what: regex} }

// PodSecrets are the values of the Secrets that the addressed pod uses, in what its containers write.
func PodSecrets() Masking { return Masking{selector: 2} }

// Tokenize writes equal values of one object as equal tokens.
func (m Masking) Tokenize() Masking {
	m.how = 1
	return m
}

// KeepLast leaves so many characters of the end.
func (m Masking) KeepLast(characters byte) Masking {
	m.how, m.last = 2, characters
	return m
}

// Remove leaves the field out.
func (m Masking) Remove() Masking {
	m.how = 3
	return m
}

// When masks objects only in which another field is this: text as it is, anything else as JSON writes it.
func (m Masking) When(path, value string) Masking {
	m.when = append(slices.Clip(m.when), condition{path, 0, value})
	return m
}

// Unless masks objects only in which it is not, or is not there.
func (m Masking) Unless(path, value string) Masking {
	m.when = append(slices.Clip(m.when), condition{path, 1, value})
	return m
}

// ChunkVerdict is what becomes of a piece of a stream.
type ChunkVerdict struct {
	kind   byte
	data   []byte
	reason string
	hint   string
}

// Forward sends it on as it is.
func Forward() ChunkVerdict { return ChunkVerdict{} }

// Replace sends this in its place.
func Replace(data []byte) ChunkVerdict { return ChunkVerdict{kind: 1, data: data} }

// EndStream ends the stream, and the caller is told why.
func EndStream(reason string, hint ...string) ChunkVerdict {
	return ChunkVerdict{kind: 2, reason: reason, hint: hintOf(hint)}
}

func hintOf(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}
