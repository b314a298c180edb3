// policy-name: hides the values of Secrets.
package main

import (
	"policy-name/postern"
)

// Settings is what stands under `settings` in the file beside the module. What is not there is not taken.
type Settings struct {
	Groups []string `json:"groups" doc:"Groups that see them"`
}

var policy = postern.Policy[Settings]{
	Name:     "policy-name",
	Version:  "0.1.0",
	Summary:  "Hides the values of Secrets",
	Defaults: Settings{Groups: []string{"sre"}},
	// Which operations it is asked about; an empty list means any.
	Rules: func(*Settings) []postern.Rule {
		return []postern.Rule{{Resources: []string{"secrets"}}}
	},
	// What it must see beyond who asks for what: Bodies, SecretValues, Streams, Counters.
	Capabilities: []postern.Capability{},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		if request.IsIn(settings.Groups) {
			return postern.Allow()
		}
		// Equal values of a Secret are equal tokens. KeepLast(4), Remove() and When("$.type", "Opaque") are there too.
		return postern.Mask(postern.Field("$.data.*").Tokenize(), postern.Field("$.stringData.*").Tokenize())
	},
}

func init() { postern.Define(policy) }

func main() {}
