"""policy-name: limits how many changes a caller makes."""

from postern import Request, Settings, Verdict, allow, block, define, rule


class PolicySettings(Settings):
    """What stands under `settings` in the file beside the module. What is not there is not taken."""

    per_minute: int = 60
    """Changes that a caller may make in a minute."""


class Limits:
    name = "policy-name"
    version = "0.1.0"
    summary = "Limits how many changes a caller makes"
    settings = PolicySettings
    # Which operations it is asked about; an empty list means any.
    rules = [rule(verbs=["create", "update", "patch", "delete", "deletecollection"])]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters.
    capabilities = ["counters"]

    def configure(self, settings: PolicySettings) -> None:
        if settings.per_minute < 0:
            raise ValueError("settings.perMinute: at least 0 is expected")

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        if request.dry_run:
            return allow()
        so_far = request.count(request.caller.username, 1, 60)
        if so_far <= settings.per_minute:
            return allow()
        return block(f"{so_far} changes in a minute are over the limit of {settings.per_minute}", "wait a minute")


Policy = define(Limits)
