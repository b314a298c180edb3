"""policy-name: says who may delete."""

from postern import Request, Settings, Verdict, allow, block, define, rule


class PolicySettings(Settings):
    """What stands under `settings` in the file beside the module. What is not there is not taken."""

    groups: list[str] = ["sre"]
    """Groups that may delete."""


class Deletes:
    name = "policy-name"
    version = "0.1.0"
    summary = "Says who may delete"
    settings = PolicySettings
    # Which operations it is asked about; an empty list means any.
    rules = [rule(verbs=["delete", "deletecollection"])]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters.
    capabilities: list[str] = []

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        if request.is_in(settings.groups):
            return allow()
        return block(f"{request.caller.username} may not delete", "ask one of " + ", ".join(settings.groups))


Policy = define(Deletes)
