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
    rules = [rule(verbs=["create", "get", "list", "watch"], resources=["configmaps", "deployments"])]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters.
    # Names and labels are always there.
    capabilities: list[str] = []

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        if request.verb != "create" or request.is_in(settings.groups):
            return allow()
        team = request.body and request.body.text(f"$.metadata.labels['{settings.label}']")
        if not team:
            return block(f"what is created needs the label {settings.label}", f"put {settings.label}: YOUR-TEAM into metadata.labels")
        return allow() if request.is_in([team]) else block(f"{request.caller.username} is not of the team {team}")

    # Each object that comes back: of a get, of a list, of a watch. What is blocked here is left out.
    def on_object(self, request: Request, document: Document, settings: PolicySettings) -> Verdict:
        team = document.text(f"$.metadata.labels['{settings.label}']")
        if not team or request.is_in([team, *settings.groups]):
            return allow()
        return block(f"it is of the team {team}")


Policy = define(Teams)
