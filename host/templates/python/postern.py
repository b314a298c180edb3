"""Between the contract (wit/policy.wit) and a policy: what it is asked with, and short ways to answer."""

import json
import typing
from typing import Any, Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import host, types

Verdict = types.Verdict
ChunkVerdict = types.ChunkVerdict
Channel = types.Channel


def allow() -> Verdict:
    """Nothing against it."""
    return types.Verdict_Allow()


def block(reason: str, hint: Optional[str] = None) -> Verdict:
    """Refuses it, with a reason the caller sees, and what to do instead. From on_object: the object is hidden."""
    return types.Verdict_Block(types.Denial(reason, hint))


def terminate(reason: str, hint: Optional[str] = None) -> Verdict:
    """Ends an answer before the object that on_object was asked about."""
    return types.Verdict_Terminate(types.Denial(reason, hint))


def require_approval(reason: str, approvers: list[str], required: int = 1, valid_seconds: int = 3600) -> Verdict:
    """Asks for the approval of members of these groups."""
    return types.Verdict_RequireApproval(types.Approval(reason, approvers, required, valid_seconds))


class Mask:
    """What is hidden, redacted unless a method says how it is written; each method gives another mask."""

    def __init__(self, what: types.Selector, how: Optional[types.Transform] = None, conditions: tuple[types.Condition, ...] = ()):
        self._what, self._how, self._conditions = what, how or types.Transform_Redact(), conditions

    def tokenize(self) -> "Mask":
        """Written as a keyed token: equal values of one object are equal tokens."""
        return Mask(self._what, types.Transform_Tokenize(), self._conditions)

    def keep_last(self, characters: int) -> "Mask":
        """Its last characters are left, so many of them."""
        return Mask(self._what, types.Transform_KeepLast(characters), self._conditions)

    def remove(self) -> "Mask":
        """Left out."""
        return Mask(self._what, types.Transform_Remove(), self._conditions)

    def when(self, path: str, value: str) -> "Mask":
        """Only on objects in which a field has this value: text as it is, anything else as JSON writes it."""
        return self._also(types.Condition(path, types.Comparison.EQUAL, value))

    def unless(self, path: str, value: str) -> "Mask":
        """Only on objects in which it has another, or none."""
        return self._also(types.Condition(path, types.Comparison.NOT_EQUAL, value))

    def _also(self, condition: types.Condition) -> "Mask":
        return Mask(self._what, self._how, (*self._conditions, condition))

    def _as_contract(self) -> types.Mask:
        return types.Mask(self._what, self._how, list(self._conditions))


def mask(*masks: Mask) -> Verdict:
    """Hides what these name; none of them is `allow()`."""
    return types.Verdict_Mask([one._as_contract() for one in masks]) if masks else allow()


def field(path: str) -> Mask:
    """A field in every object, by JSONPath."""
    return Mask(types.Selector_Field(path))


def pattern(regex: str) -> Mask:
    """What a regular expression matches, in text streams and in the text of objects."""
    return Mask(types.Selector_Text(regex))


def pod_secrets() -> Mask:
    """The values of the Secrets the addressed pod uses, in what its containers write."""
    return Mask(types.Selector_PodSecrets())


def forward() -> ChunkVerdict:
    """Sends a piece of a stream on as it is."""
    return types.ChunkVerdict_Forward()


def replace(data: bytes) -> ChunkVerdict:
    """Sends this in its place."""
    return types.ChunkVerdict_Replace(data)


def end_stream(reason: str, hint: Optional[str] = None) -> ChunkVerdict:
    """Ends the stream, and the caller is told why."""
    return types.ChunkVerdict_Terminate(types.Denial(reason, hint))


def rule(
    verbs: Optional[list[str]] = None,
    api_groups: Optional[list[str]] = None,
    resources: Optional[list[str]] = None,
    namespaces: Optional[list[str]] = None,
) -> types.Rule:
    """Which operations a policy is asked about; what is not said means any."""
    return types.Rule(verbs or [], api_groups or [], resources or [], namespaces or [])


def _listed(any_of: Any) -> list[Any]:
    """A text is a list of its letters, which fit nothing: nobody would be told."""
    if isinstance(any_of, (str, bytes)):
        raise TypeError("a list is expected of what is asked about")
    return list(any_of)


def _first(any_of: list[Any], ask: Any) -> Optional[int]:
    """Asks about a list, a part of a long one at a time; an empty one fits nothing, and is not asked about."""
    any_of = _listed(any_of)
    for begin in range(0, len(any_of), 1000):
        found = ask(any_of[begin : begin + 1000])
        if found is not None:
            return begin + found
    return None


def _json(values: list[Any]) -> list[str]:
    return [json.dumps(value) for value in _listed(values)]


class Caller:
    """Who asks. Each thing that is read of it is a question to the host: what is not asked decides nothing."""

    def __init__(self, operation: types.Operation):
        self._operation = operation

    @property
    def username(self) -> str:
        """The name of the caller, used for audit and for Kubernetes."""
        return self._operation.get(types.Text.USERNAME) or ""

    @property
    def issuer(self) -> str:
        """The verified issuer of the caller's credential."""
        return self._operation.get(types.Text.ISSUER) or ""

    @property
    def groups(self) -> list[str]:
        """The groups that the caller's claims or certificate give. `is_in` says less."""
        return self._operation.groups()

    @property
    def claims(self) -> list[tuple[str, str]]:
        """All verified claims of the caller's token, as JSON texts."""
        return self._operation.claims()

    def is_in(self, groups: list[str]) -> bool:
        """Whether the caller is in one of these groups."""
        return self.group_of(groups) is not None

    def group_of(self, groups: list[str]) -> Optional[int]:
        """Which of these groups the caller is in, the first of them."""
        return _first(groups, self._operation.in_groups)

    def claim(self, name: str) -> Any:
        """A verified claim of the caller's token; none of one that the token has twice."""
        found = self._operation.claim(name)
        return None if found is None else json.loads(found)

    def claim_is(self, name: str, any_of: list[Any]) -> Optional[int]:
        """Which of these values a claim is."""
        return _first(_json(any_of), lambda part: self._operation.claim_is(name, part))

    def claim_has(self, name: str, any_of: list[Any]) -> Optional[int]:
        """Which of these values a claim that is a list has, the first of them."""
        return _first(_json(any_of), lambda part: self._operation.claim_has(name, part))


class Request:
    """An operation, its body, and what the host offers. Each thing that is read of it is a question to the host: tests say less than values."""

    def __init__(self, operation: types.Operation, body: Optional[types.Document] = None):
        self._operation = operation
        self.caller = Caller(operation)
        self.body = None if body is None else Document(body)

    def is_(self, what: str, any_of: list[str]) -> bool:
        """Whether a text is one of these: verb, kind (`pods/exec`), resource, subresource, api-group, api-version, namespace, name, place (`NAMESPACE/NAME`), path, cluster, username, issuer, container."""
        return self.which(what, any_of) is not None

    def which(self, what: str, any_of: list[str]) -> Optional[int]:
        """Which of these a text is."""
        return _first(any_of, lambda part: self._operation.is_(_text(what), part))

    def like(self, what: str, globs: list[str]) -> Optional[int]:
        """The first of these that a text matches: `*` stands for any characters, for none and for `/` too."""
        return _first(globs, lambda part: self._operation.like(_text(what), part))

    def has(self, what: str) -> bool:
        """Whether there is such a text."""
        return self._operation.has(_text(what))

    def get(self, what: str) -> Optional[str]:
        """A text, or none."""
        return self._operation.get(_text(what))

    @property
    def verb(self) -> str:
        """`get`, `list`, `create`, `delete`; a lower-case HTTP method where no resource is addressed."""
        return self.get("verb") or ""

    @property
    def resource(self) -> str:
        """`pods`, `pods/exec`; empty where no resource is addressed."""
        return self.get("kind") or ""

    @property
    def namespace(self) -> Optional[str]:
        """The namespace addressed; none for what has none and for lists over all of them."""
        return self.get("namespace")

    @property
    def object_name(self) -> Optional[str]:
        """The object's name; none for lists."""
        return self.get("name")

    @property
    def path(self) -> str:
        """The normalised path."""
        return self.get("path") or ""

    @property
    def cluster(self) -> str:
        """The name that the gateway's configuration gives the cluster."""
        return self.get("cluster") or ""

    @property
    def dry_run(self) -> bool:
        """Whether kube-apiserver is asked to change nothing, and would obey."""
        return self._operation.dry_run()

    @property
    def approved(self) -> bool:
        """Whether approvals were asked for, and given: in on_object and on_chunk of an operation that waited."""
        return self._operation.approved()

    @property
    def is_command(self) -> bool:
        """Whether it opens a stream into a container."""
        return self._operation.is_command()

    @property
    def command(self) -> Optional[types.Command]:
        """What opens a stream into a container: container, argv, stdin, tty; none for everything but exec and attach."""
        return self._operation.command()

    @property
    def received_at(self) -> int:
        """When the gateway accepted the request, in Unix milliseconds. `at` says less."""
        return self._operation.received_at()

    @property
    def id(self) -> str:
        """The id of its audit events."""
        return self._operation.id()

    def at(self, windows: list[tuple[int, int]], period: int = 0, offset: int = 0) -> Optional[int]:
        """The first window [from, until) in which the request was accepted, in seconds since 1970 in UTC with `offset` added; with a `period` they begin anew each time so many seconds have passed."""
        return _first(windows, lambda part: self._operation.at(part, period, offset))

    def is_in(self, groups: list[str]) -> bool:
        """Whether the caller is in one of these groups."""
        return self.caller.is_in(groups)

    def claim(self, name: str) -> Any:
        """A verified claim of the caller's token."""
        return self.caller.claim(name)

    @property
    def query(self) -> list[tuple[str, str]]:
        """The decoded query, in order, keys repeated as they came."""
        return self._operation.queries()

    def query_values(self, key: str) -> list[str]:
        """Every value of a query parameter."""
        return self._operation.query(key)

    def query_value(self, key: str) -> Optional[str]:
        """The first value of a query parameter."""
        return next(iter(self.query_values(key)), None)

    def query_like(self, key: str, globs: list[str]) -> Optional[int]:
        """The first of these that any value of a query parameter matches: to refuse by one, not to let pass by it."""
        return _first(globs, lambda part: self._operation.query_like(key, part))

    def around(self, which: str) -> "Optional[Document]":
        """One of the objects that `needs` names: namespace, stored, pod."""
        found = host.look_around(types.Surrounding[which.upper()])
        return None if found is None else Document(found)

    def annotate(self, key: str, value: str) -> None:
        """Adds a fact to the audit event: never a secret."""
        host.annotate(key, value)

    def count(self, key: str, amount: int, window_seconds: int) -> int:
        """Adds to a counter and returns what was counted in the last `window_seconds`; 0 asks without counting."""
        return host.count(key, amount, window_seconds)

    def spend(self, name: str, amount: int, window_seconds: int, limits: list[int]) -> int:
        """Adds to a counter of that name that is the caller's own, and says how many of the limits, each larger than the one before, what was added in the last `window_seconds` is over."""
        return host.spend(name, host.Amount_Number(amount), window_seconds, limits)


def _text(name: str) -> types.Text:
    return types.Text[name.upper().replace("-", "_")]


class Document:
    """A Kubernetes object, held by the host. Paths are JSONPath: names, indexes, wildcards, descendants."""

    def __init__(self, document: types.Document):
        self._document = document

    def get(self, path: str) -> Any:
        """The first match of a path."""
        found = self._document.get(path)
        return None if found is None else json.loads(found)

    def text(self, path: str) -> Optional[str]:
        """The first match of a path, if it is text."""
        found = self.get(path)
        return found if isinstance(found, str) else None

    def select(self, path: str) -> list[tuple[str, Any]]:
        """Every match of a path: its normalized path and its value."""
        return [(at, json.loads(value)) for at, value in self._document.select(path)]

    def texts(self, path: str) -> list[str]:
        """Every text that a path matches."""
        return [value for _, value in self.select(path) if isinstance(value, str)]

    def is_(self, path: str, any_of: list[Any]) -> Optional[int]:
        """Which of these values any match of a path is, the first of them."""
        return _first(_json(any_of), lambda part: self._document.is_(path, part))

    def matches(self, path: str) -> int:
        """How many matches a path has."""
        return self._document.matches(path)

    def json(self) -> Any:
        """All of it."""
        return json.loads(self._document.json())

    def size(self) -> int:
        """Bytes of it, as it came."""
        return self._document.size()


class Settings:
    """Settings: fields with a type and, where they may be left out, a default. The field `per_minute` is `perMinute` in a policy's file; it is taken as `per_minute` too."""

    def __init__(self, given: dict[str, Any]):
        fields = self._fields()
        known = {_camel(name): name for name in fields}
        taken: dict[str, Any] = {}
        for key, value in given.items():
            name = known.get(key, key)
            if name not in fields:
                raise ValueError(f"settings: {key} is not known; {', '.join(known) or 'none'} are")
            if name in taken:
                raise ValueError(f"settings: {_camel(name)} stands there twice")
            taken[name] = value
        for name, kind in fields.items():
            if name in taken:
                setattr(self, name, _checked(taken[name], kind, f"settings.{_camel(name)}"))
            elif not hasattr(type(self), name):
                raise ValueError(f"settings: {_camel(name)} is missing")

    @classmethod
    def _fields(cls) -> dict[str, Any]:
        return typing.get_type_hints(cls)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Its JSON Schema."""
        properties, required = {}, []
        for name, kind in cls._fields().items():
            properties[_camel(name)] = _schema(kind)
            if hasattr(cls, name):
                properties[_camel(name)]["default"] = getattr(cls, name)
            else:
                required.append(_camel(name))
        return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


def _schema(kind: Any) -> dict[str, Any]:
    if typing.get_origin(kind) is list:
        return {"type": "array", "items": _schema(typing.get_args(kind)[0])}
    return {"type": _NAMES[kind]}


def _checked(value: Any, kind: Any, at: str) -> Any:
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise ValueError(f"{at}: a list is expected")
        return [_checked(item, typing.get_args(kind)[0], f"{at}[{n}]") for n, item in enumerate(value)]
    if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"{at}: {_NAMES[kind]} is expected")
    return value


def define(description: Any) -> type:
    """Makes of a description what the contract wants exported."""
    described = description()
    settings_of = getattr(description, "settings", Settings)
    hooks = types.Hooks(0)
    for name in ("request", "object", "chunk"):
        if hasattr(description, f"on_{name}"):
            hooks |= types.Hooks[name.upper()]
    capabilities = types.Capabilities(0)
    for name in getattr(description, "capabilities", []):
        capabilities |= types.Capabilities[name.replace("-", "_").upper()]
    configured: list[Any] = []

    class Policy(exports.Policy):
        def configure(self, settings: str) -> None:
            try:
                configured.append(settings_of(json.loads(settings)))
                if hasattr(described, "configure"):
                    described.configure(configured[0])
            except ValueError as error:
                # Shown to the operator; the last good version goes on serving.
                raise Err(str(error)) from error

        def describe(self) -> types.Manifest:
            rules = described.rules
            return types.Manifest(
                described.name,
                described.version,
                described.summary,
                rules(configured[0]) if callable(rules) else rules,
                hooks,
                [types.Surrounding[name.upper()] for name in getattr(described, "needs", [])],
                capabilities,
                json.dumps(settings_of.schema()),
            )

        def on_request(self, operation: types.Operation, body: Optional[types.Document]) -> Verdict:
            if not hasattr(described, "on_request"):
                return allow()
            return described.on_request(Request(operation, body), configured[0])

        def on_object(self, operation: types.Operation, object: types.Document) -> Verdict:
            if not hasattr(described, "on_object"):
                return allow()
            return described.on_object(Request(operation), Document(object), configured[0])

        def on_chunk(self, operation: types.Operation, channel: Channel, data: bytes) -> ChunkVerdict:
            if not hasattr(described, "on_chunk"):
                return forward()
            return described.on_chunk(Request(operation), channel, data, configured[0])

    return Policy
