// Package postern is what stands between the contract (wit/policy.wit) and a policy: what it is asked with, and short ways to answer.
package postern

import (
	"encoding/json"
	"slices"
)

// Caller is who is asking. The credential itself never crosses into a policy.
type Caller struct {
	// Username is the name used for audit and for Kubernetes.
	Username string
	// Groups are those that its claims or its certificate give.
	Groups []string
	// Issuer is the verified issuer of the credential.
	Issuer string
	// Claims are the verified claims of its token, each value as JSON text.
	Claims []Pair
}

// Pair is a key and what stands under it.
type Pair struct{ Key, Value string }

// Target is the Kubernetes resource that an operation addresses. What there is not is empty.
type Target struct {
	APIGroup, APIVersion, Resource, Subresource, Namespace, Name string
}

// Command is what opens a stream into a container.
type Command struct {
	// Container is empty where the choice is left to the API server.
	Container string
	// Argv are the words of the command; none for attach.
	Argv []string
	// Stdin and TTY are whether the caller sends input, and asks for a terminal.
	Stdin, TTY bool
}

// Operation is one request, decoded.
type Operation struct {
	// ID is that of its audit events.
	ID string
	// Cluster is the name that the gateway's configuration gives the cluster.
	Cluster string
	// ReceivedAt is when the gateway accepted the request, in Unix milliseconds: the only clock that a policy has.
	ReceivedAt uint64
	Caller     Caller
	// Verb is get, list, watch, create, update, patch, delete, deletecollection, or a lower-case HTTP method where there is no target.
	Verb string
	// Target is what is addressed; nil for paths that are no resource.
	Target *Target
	// Path is the normalised path, and Query the decoded query.
	Path  string
	Query []Pair
	// DryRun is whether kube-apiserver is asked to change nothing, and would obey.
	DryRun bool
	// Command is what opens a stream into a container; nil for everything but exec and attach.
	Command *Command
	// Approved is whether approvals were asked for, and given: in OnObject and OnChunk of an operation that waited.
	Approved bool
}

// Request is an operation, its body, and what the host offers.
type Request struct {
	Operation
	// Body is nil where there is none, or the policy did not ask for bodies.
	Body *Document
}

// Resource is `pods` or `pods/exec`; empty where no resource is addressed.
func (r *Request) Resource() string {
	switch {
	case r.Target == nil:
		return ""
	case r.Target.Subresource != "":
		return r.Target.Resource + "/" + r.Target.Subresource
	default:
		return r.Target.Resource
	}
}

// Namespace is that of what is addressed; empty for what has none and for lists over all of them.
func (r *Request) Namespace() string {
	if r.Target == nil {
		return ""
	}
	return r.Target.Namespace
}

// ObjectName is that of what is addressed; empty for lists.
func (r *Request) ObjectName() string {
	if r.Target == nil {
		return ""
	}
	return r.Target.Name
}

// IsIn is whether the caller is in one of these groups.
func (r *Request) IsIn(groups []string) bool {
	return slices.ContainsFunc(groups, func(group string) bool { return slices.Contains(r.Caller.Groups, group) })
}

// QueryValue is the first value of a query parameter; empty where there is none.
func (r *Request) QueryValue(key string) string {
	for _, parameter := range r.Query {
		if parameter.Key == key {
			return parameter.Value
		}
	}
	return ""
}

// Claim reads a verified claim of the caller's token. It is false where there is none, or it is of another type.
func (r *Request) Claim(name string, into any) bool {
	for _, claim := range r.Caller.Claims {
		if claim.Key == name {
			return json.Unmarshal([]byte(claim.Value), into) == nil
		}
	}
	return false
}

// Around is one of the objects that Needs names; nil where there is none.
func (r *Request) Around(which Surrounding) *Document { return lookAround(which) }

// Annotate adds a fact to the audit event: never a secret.
func (r *Request) Annotate(key, value string) { annotate(key, value) }

// Count adds to a counter and gives back what was counted in the last windowSeconds; an amount of 0 asks without counting.
func (r *Request) Count(key string, amount uint64, windowSeconds uint32) uint64 {
	return count(key, amount, windowSeconds)
}

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
	return Verdict{kind: 2, reason: reason, hint: first(hint)}
}

// Terminate ends an answer before the object that OnObject was asked about.
func Terminate(reason string, hint ...string) Verdict {
	return Verdict{kind: 4, reason: reason, hint: first(hint)}
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
	return ChunkVerdict{kind: 2, reason: reason, hint: first(hint)}
}

func first(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}
