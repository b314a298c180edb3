// policy-name: limits how many changes a caller makes.
package main

import (
	"fmt"

	"policy-name/postern"
)

// Settings is what stands under `settings` in the file beside the module. What is not there is not taken.
type Settings struct {
	PerMinute uint64 `json:"perMinute" doc:"Changes that a caller may make in a minute"`
}

var policy = postern.Policy[Settings]{
	Name:     "policy-name",
	Version:  "0.1.0",
	Summary:  "Limits how many changes a caller makes",
	Defaults: Settings{PerMinute: 60},
	// Which operations it is asked about; an empty list means any.
	Rules: func(*Settings) []postern.Rule {
		return []postern.Rule{{Verbs: []string{"create", "update", "patch", "delete", "deletecollection"}}}
	},
	// What it must see beyond who asks for what: Bodies, SecretValues, Streams, Counters.
	Capabilities: []postern.Capability{postern.Counters},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		if request.DryRun() {
			return postern.Allow()
		}
		soFar := request.Count(request.Caller.Username(), 1, 60)
		if soFar <= settings.PerMinute {
			return postern.Allow()
		}
		return postern.Block(fmt.Sprintf("%d changes in a minute are over the limit of %d", soFar, settings.PerMinute), "wait a minute")
	},
}

func init() { postern.Define(policy) }

func main() {}
