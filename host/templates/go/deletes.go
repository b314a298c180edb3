// policy-name: says who may delete.
package main

import (
	"fmt"
	"strings"

	"policy-name/postern"
)

// Settings is what stands under `settings` in the file beside the module. What is not there is not taken.
type Settings struct {
	Groups []string `json:"groups" doc:"Groups that may delete"`
}

var policy = postern.Policy[Settings]{
	Name:     "policy-name",
	Version:  "0.1.0",
	Summary:  "Says who may delete",
	Defaults: Settings{Groups: []string{"sre"}},
	// Which operations it is asked about; an empty list means any.
	Rules: func(*Settings) []postern.Rule {
		return []postern.Rule{{Verbs: []string{"delete", "deletecollection"}}}
	},
	// What it must see beyond who asks for what: Bodies, SecretValues, Streams, Counters.
	Capabilities: []postern.Capability{},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		if request.IsIn(settings.Groups) {
			return postern.Allow()
		}
		reason := fmt.Sprintf("%s may not delete", request.Caller.Username())
		return postern.Block(reason, "ask one of "+strings.Join(settings.Groups, ", "))
	},
}

func init() { postern.Define(policy) }

func main() {}
