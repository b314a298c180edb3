"""policy-name: says which commands run in containers."""

from postern import Request, Settings, Verdict, define, mask, pod_secrets, require_approval, rule


class PolicySettings(Settings):
    """What stands under `settings` in the file beside the module. What is not there is not taken."""

    commands: list[str] = ["ls", "ps"]
    """Commands that run without an approval, by their first word."""
    approvers: list[str] = ["sre"]
    """Groups that approve the others."""


class Commands:
    name = "policy-name"
    version = "0.1.0"
    summary = "Says which commands run in containers"
    settings = PolicySettings
    # Which operations it is asked about; an empty list means any.
    rules = [rule(verbs=["create"], resources=["pods/exec", "pods/attach"])]
    # What it must see beyond who asks for what: bodies, secret-values, streams, counters.
    capabilities: list[str] = []

    def on_request(self, request: Request, settings: PolicySettings) -> Verdict:
        # attach has no words: what it reaches runs already.
        words = request.command.argv if request.command else []
        if words and words[0] in settings.commands:
            # And what it writes shows no value of the Secrets that the pod uses.
            return mask(pod_secrets())
        what = f"runs {words[0]} in" if words else "attaches to"
        return require_approval(f"{request.caller.username} {what} {request.object_name}", settings.approvers)


Policy = define(Commands)
