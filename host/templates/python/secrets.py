"""policy-name: hides the values of Secrets."""

from postern import Request, Settings, Verdict, allow, define, field, mask, rule


class PolicySettings(Settings):
    """What stands under `settings` in the file beside the module. What is not there is not taken."""

    groups: list[str] = ["sre"]
    """Groups that see them."""


class Secrets:
    name = "policy-name"
    version = "0.1.0"
    summary = "Hides the values of Secrets"
    settings = PolicySettings
    # Which operations it is asked about; an empty list means any.
    rules = [rule(resources=["secrets"])]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters.
    capabilities: list[str] = []

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        if request.is_in(settings.groups):
            return allow()
        # Equal values of a Secret are equal tokens. `.keep_last(4)`, `.remove()` and `.when("$.type", "Opaque")` are there too.
        return mask(field("$.data.*").tokenize(), field("$.stringData.*").tokenize())


Policy = define(Secrets)
