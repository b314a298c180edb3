// policy-name: asks everything there is by its library, and says what it was answered.
package main

import (
	"fmt"
	"slices"
	"strings"

	"policy-name/postern"
)

type Settings struct{}

func place(at int, is bool) any {
	if !is {
		return "none"
	}
	return at
}

func text(of string) any {
	if of == "" {
		return "-"
	}
	return of
}

func told(answers ...any) string {
	return strings.TrimSuffix(fmt.Sprintln(answers...), "\n")
}

func check(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

var policy = postern.Policy[Settings]{
	Name: "policy-name", Version: "0.1.0", Summary: "Asks everything there is",
	Capabilities: []postern.Capability{postern.Bodies, postern.Counters},

	OnRequest: func(request *postern.Request, settings *Settings) postern.Verdict {
		caller, command := request.Caller, request.Command()
		tests := told(
			place(caller.GroupOf([]string{"x", "b"})),
			place(request.Which(postern.TextKind, []string{"pods", "pods/exec"})),
			place(request.Like(postern.TextPlace, []string{"def*/w*"})),
			place(request.QueryLike("command", []string{"rm*", "-*"})),
			place(caller.ClaimIs("n", postern.Any([]int{2, 1}))),
			place(caller.ClaimHas("list", postern.Any([]string{"z"}))),
			place(request.At([]postern.Window{{From: 0, Until: 43200}, {From: 43200, Until: 46800}}, 86400, 0)),
			request.Has(postern.TextContainer),
		)
		texts := told(
			request.Verb(), request.Resource(), text(request.Namespace()), text(request.ObjectName()), request.Get(postern.TextPlace), request.Get(postern.TextCluster),
			caller.Username(), caller.Issuer(), text(request.Get(postern.TextContainer)),
		)
		var subject string
		request.Claim("sub", &subject)
		var argv []string
		if command != nil {
			argv = command.Argv
		}
		lists := told(text(strings.Join(caller.Groups(), ",")), text(subject), text(strings.Join(request.QueryValues("command"), ",")), text(strings.Join(argv, " ")))
		flags := told(request.ReceivedAt(), request.DryRun(), request.Approved(), request.IsCommand())
		counts := told(request.Count("k", 3, 60), request.Spend("k", 3, 60, 3, 6, 9))
		// A list that is longer than what is asked about at once.
		many := slices.Repeat([]string{"no"}, 1500)
		at, is := request.Which(postern.TextVerb, append(slices.Clone(many), request.Verb()))
		check(is && at == 1500 && !request.Is(postern.TextVerb, many...) && !request.Is(postern.TextVerb), "a long list")
		check(len(caller.Claims()) == 0 || len(caller.Claims()) == 3, "claims")
		check(request.ID() != "" && len(request.Query()) > 0, "what is asked for")
		check(command == nil || command.Container == "main" && request.QueryValue("command") == "ls", "the command")
		said := []string{tests, texts, lists, flags, counts}
		if request.Body != nil && command == nil {
			said = append(said, told(
				place(request.Body.Is("$.data.*", postern.Any([]string{"no", "eQ=="}))), request.Body.Matches("$.data.*"), place(request.Body.Is("$.data.n", []any{1})),
			))
		}
		return postern.Block(strings.Join(said, "; "))
	},
}

func init() { postern.Define(policy) }

func main() {}
