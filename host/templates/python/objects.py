"""policy-name: has each team see its own objects."""

from postern import Document, Request, Settings, Verdict, allow, block, define, rule


class PolicySettings(Settings):
    """What stands under `settings` in the file beside the module. What is not there is not taken."""

    label: str = "team"
    """The label that says whose an object is."""
    groups: list[str] = ["sre"]
    """Groups that see, and create, everything."""


class Teams:
    name = "policy-name"
    version = "0.1.0"
    summary = "Has each team see its own objects"
    settings = PolicySettings
    # Which operations it is asked about; an empty list means any.
    rules = [rule(resources=["configmaps", "deployments", "deployments/status"])]
    # What it must know beside the request: stored, namespace, pod.
    needs = ["stored"]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters. Names and labels are always there.
    capabilities: list[str] = []

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        if request.is_in(settings.groups) or request.verb in ("get", "list", "watch"):
            return allow()
        if request.verb == "deletecollection":
            return block("many objects at once may be of several teams", "delete them by name")
        label = f"$.metadata.labels['{settings.label}']"
        stored = request.around("stored")
        owner = stored and stored.text(label)
        if owner and not request.is_in([owner]):
            return block(f"it is of the team {owner}")
        # A patch creates what is not there, by server-side apply.
        if request.verb == "delete" or stored and request.verb == "patch":
            return allow()
        team = request.body and request.body.text(label)
        if not team:
            return block(f"what is created needs the label {settings.label}", f"put {settings.label}: YOUR-TEAM into metadata.labels")
        return allow() if request.is_in([team]) else block(f"{request.caller.username} is not of the team {team}")

    # Each object that comes back: of a get, a list, a watch, a change. What is blocked here is left out.
    def on_object(self, request: Request, document: Document, settings: PolicySettings) -> Verdict:
        team = document.text(f"$.metadata.labels['{settings.label}']")
        if not team or request.is_in([team, *settings.groups]):
            return allow()
        return block(f"it is of the team {team}")


Policy = define(Teams)
