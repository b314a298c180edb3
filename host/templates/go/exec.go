// policy-name: says which commands run in containers.
package main

import (
	"fmt"
	"slices"

	"policy-name/postern"
)

// Settings is what stands under `settings` in the file beside the module. What is not there is not taken.
type Settings struct {
	Commands  []string `json:"commands" doc:"Commands that run without an approval, by their first word"`
	Approvers []string `json:"approvers" doc:"Groups that approve the others"`
}

var policy = postern.Policy[Settings]{
	Name:     "policy-name",
	Version:  "0.1.0",
	Summary:  "Says which commands run in containers",
	Defaults: Settings{Commands: []string{"ls", "ps"}, Approvers: []string{"sre"}},
	// Which operations it is asked about; an empty list means any.
	Rules: func(*Settings) []postern.Rule {
		return []postern.Rule{{Verbs: []string{"create"}, Resources: []string{"pods/exec", "pods/attach"}}}
	},
	// What it must see beyond who asks for what: Bodies, SecretValues, Streams, Counters.
	Capabilities: []postern.Capability{},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		// attach has no words: what it reaches runs already.
		what := "attaches to"
		if asked := request.Command(); asked != nil && len(asked.Argv) > 0 {
			command := asked.Argv[0]
			if slices.Contains(settings.Commands, command) {
				// And what it writes shows no value of the Secrets that the pod uses.
				return postern.Mask(postern.PodSecrets())
			}
			what = fmt.Sprintf("runs %s in", command)
		}
		reason := fmt.Sprintf("%s %s %s", request.Caller.Username(), what, request.ObjectName())
		return postern.RequireApproval(reason, settings.Approvers)
	},
}

func init() { postern.Define(policy) }

func main() {}
