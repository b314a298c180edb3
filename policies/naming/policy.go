// naming: objects are called as was agreed.
package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"naming/postern"
)

// Settings are agreements, and who is not bound by them.
type Settings struct {
	Names        []Agreement `json:"names" doc:"What objects are called, by resource"`
	ExemptGroups []string    `json:"exemptGroups" doc:"Groups that call them as they like"`
}

// Agreement is how objects of some resources are called.
type Agreement struct {
	Resources  []string `json:"resources" doc:"As RBAC writes them, for example namespaces"`
	Namespaces []string `json:"namespaces" doc:"Where; everywhere when empty"`
	Pattern    string   `json:"pattern" doc:"A regular expression (RE2) that names must match"`
	Because    string   `json:"because" doc:"What the caller is told"`
	matches    *regexp.Regexp
}

var policy = postern.Policy[Settings]{
	Name:    "naming",
	Version: "0.1.0",
	Summary: "Has objects called as was agreed",
	// An object that is there keeps its name: whether there is one decides of an update or a patch.
	Needs: []postern.Surrounding{postern.Stored},
	Configure: func(settings *Settings) error {
		if len(settings.Names) == 0 {
			return fmt.Errorf("settings.names: name at least one agreement")
		}
		for i := range settings.Names {
			agreement, at := &settings.Names[i], fmt.Sprintf("settings.names[%d]", i)
			if len(agreement.Resources) == 0 {
				return fmt.Errorf("%s.resources: name at least one", at)
			}
			if slices.ContainsFunc(agreement.Resources, func(resource string) bool { return strings.ContainsAny(resource, "*/") }) {
				return fmt.Errorf("%s.resources: a resource with a name of its own, and no wildcard or subresource", at)
			}
			if slices.Contains(agreement.Namespaces, "") {
				return fmt.Errorf("%s.namespaces: a namespace has a name; without any the agreement is about all", at)
			}
			compiled, err := regexp.Compile(agreement.Pattern)
			if err != nil || agreement.Pattern == "" {
				return fmt.Errorf("%s.pattern: no regular expression", at)
			}
			agreement.matches = compiled
		}
		return nil
	},
	Rules: func(settings *Settings) []postern.Rule {
		var rules []postern.Rule
		for _, agreement := range settings.Names {
			rules = append(rules, postern.Rule{
				Verbs:      []string{"create", "update", "patch"},
				Resources:  agreement.Resources,
				Namespaces: agreement.Namespaces,
			})
		}
		return rules
	},
	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		if request.IsIn(settings.ExemptGroups) || !request.Is(postern.TextVerb, "create") && request.Around(postern.Stored) != nil {
			return postern.Allow()
		}
		name := nameOf(request)
		for _, agreement := range settings.Names {
			if agreement.binds(request) && !agreement.matches.MatchString(name) {
				return postern.Block(fmt.Sprintf("%s may not be called %q", request.Resource(), name), agreement.told())
			}
		}
		return postern.Allow()
	},
}

// nameOf is what an object that is made will be called. Of a name that the API server makes up, it is one as it could.
func nameOf(request *postern.Request) string {
	if name := request.ObjectName(); name != "" {
		return name
	}
	if request.Body == nil {
		return ""
	}
	if name := request.Body.Text("$.metadata.name"); name != "" {
		return name
	}
	begin := request.Body.Text("$.metadata.generateName")
	// The API server cuts it there (k8s.io/apiserver/pkg/storage/names).
	return begin[:min(len(begin), 58)] + "x7k2m"
}

func (a Agreement) binds(request *postern.Request) bool {
	return request.Is(postern.TextKind, a.Resources...) &&
		(len(a.Namespaces) == 0 || request.Is(postern.TextNamespace, a.Namespaces...))
}

func (a Agreement) told() string {
	if a.Because != "" {
		return a.Because
	}
	return "names match " + a.Pattern
}

func init() { postern.Define(policy) }

func main() {}
