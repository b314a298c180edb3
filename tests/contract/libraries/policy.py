"""policy-name: asks everything there is by its library, and says what it was answered."""

from postern import Request, Settings, Verdict, block, define

MANY = ["no"] * 1500


def told(answer: object) -> str:
    return {None: "none", True: "true", False: "false", "": "-"}.get(answer, str(answer)) if not isinstance(answer, int) or isinstance(answer, bool) else str(answer)


class Asks:
    name = "policy-name"
    version = "0.1.0"
    summary = "Asks everything there is"
    settings = Settings
    rules: list = []
    capabilities = ["bodies", "counters"]

    def on_request(self, request: Request, settings: Settings) -> Verdict:
        caller = request.caller
        tests = [
            caller.group_of(["x", "b"]),
            request.which("kind", ["pods", "pods/exec"]),
            request.like("place", ["def*/w*"]),
            request.query_like("command", ["rm*", "-*"]),
            caller.claim_is("n", [2, 1]),
            caller.claim_has("list", ["z"]),
            request.at([(0, 43200), (43200, 46800)], 86400),
            request.has("container"),
        ]
        texts = [request.verb, request.resource, request.namespace or "", request.object_name or "", request.get("place"), request.cluster]
        texts += [caller.username, caller.issuer, request.get("container") or ""]
        command = request.command
        lists = [",".join(caller.groups), request.claim("sub") or "", ",".join(request.query_values("command")), " ".join(command.argv) if command else ""]
        flags = [request.received_at, request.dry_run, request.approved, request.is_command]
        counts = [request.count("k", 3, 60), request.spend("k", 3, 60, [3, 6, 9])]
        # A list that is longer than what is asked about at once.
        assert request.which("verb", MANY + [request.verb]) == 1500 and not request.is_("verb", MANY) and not request.is_("verb", [])
        assert request.query_value("command") == (command.argv[0] if command else None) and len(caller.claims) in (0, 3) and request.id
        for wrong in (lambda: request.is_("verb", "create"), lambda: caller.claim_is("sub", "x")):
            try:
                wrong()
            except TypeError:
                continue
            raise AssertionError("a text is taken for a list")
        said = ["; ".join(" ".join(told(one) for one in part) for part in (tests, texts, lists, flags, counts))]
        if request.body and not command:
            body = request.body
            said += [" ".join(told(one) for one in [body.is_("$.data.*", ["no", "eQ=="]), body.matches("$.data.*"), body.is_("$.data.n", [1])])]
        return block("; ".join(said))


Policy = define(Asks)
