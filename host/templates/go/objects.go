// policy-name: has each team see its own objects.
package main

import (
	"fmt"

	"policy-name/postern"
)

// Settings is what stands under `settings` in the file beside the module. What is not there is not taken.
type Settings struct {
	Label  string   `json:"label" doc:"The label that says whose an object is"`
	Groups []string `json:"groups" doc:"Groups that see, and create, everything"`
}

var policy = postern.Policy[Settings]{
	Name:     "policy-name",
	Version:  "0.1.0",
	Summary:  "Has each team see its own objects",
	Defaults: Settings{Label: "team", Groups: []string{"sre"}},
	// Which operations it is asked about; an empty list means any.
	Rules: func(*Settings) []postern.Rule {
		return []postern.Rule{{Resources: []string{"configmaps", "deployments", "deployments/status"}}}
	},
	// What it must know beside the request: Stored, Namespace, Pod.
	Needs: []postern.Surrounding{postern.Stored},
	// What it must see beyond who asks for what: Bodies, SecretValues, Streams, Counters. Names and labels are always there.
	Capabilities: []postern.Capability{},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		if request.Is(postern.TextVerb, "get", "list", "watch") || request.IsIn(settings.Groups) {
			return postern.Allow()
		}
		if request.Is(postern.TextVerb, "deletecollection") {
			return postern.Block("many objects at once may be of several teams", "delete them by name")
		}
		stored := request.Around(postern.Stored)
		if owner := teamOf(stored, settings); owner != "" && !request.IsIn([]string{owner}) {
			return postern.Block("it is of the team " + owner)
		}
		// A patch creates what is not there, by server-side apply.
		if request.Is(postern.TextVerb, "delete") || stored != nil && request.Is(postern.TextVerb, "patch") {
			return postern.Allow()
		}
		switch team := teamOf(request.Body, settings); {
		case team == "":
			return postern.Block("what is created needs the label "+settings.Label, "put "+settings.Label+": YOUR-TEAM into metadata.labels")
		case request.IsIn([]string{team}):
			return postern.Allow()
		default:
			return postern.Block(fmt.Sprintf("%s is not of the team %s", request.Caller.Username(), team))
		}
	},

	// Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
	OnObject: func(request *postern.Request, document *postern.Document, settings *Settings) postern.Verdict {
		team := teamOf(document, settings)
		if team == "" || request.IsIn([]string{team}) || request.IsIn(settings.Groups) {
			return postern.Allow()
		}
		return postern.Block("it is of the team " + team)
	},
}

// teamOf is the team an object is of; empty where it is of none.
func teamOf(document *postern.Document, settings *Settings) string {
	if document == nil {
		return ""
	}
	return document.Text("$.metadata.labels['" + settings.Label + "']")
}

func init() { postern.Define(policy) }

func main() {}
