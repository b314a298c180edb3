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


class Request:
    """An operation, its body, and what the host offers. The fields of the operation are its own."""

    def __init__(self, operation: types.Operation, body: Optional[types.Document] = None):
        self.operation = operation
        self.body = None if body is None else Document(body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operation, name)

    @property
    def resource(self) -> str:
        """`pods`, `pods/exec`; empty where no resource is addressed."""
        target = self.operation.target
        if target is None:
            return ""
        return target.resource + (f"/{target.subresource}" if target.subresource else "")

    @property
    def namespace(self) -> Optional[str]:
        return None if self.operation.target is None else self.operation.target.namespace

    @property
    def object_name(self) -> Optional[str]:
        return None if self.operation.target is None else self.operation.target.name

    def is_in(self, groups: list[str]) -> bool:
        """Whether the caller is in one of these groups."""
        return any(group in self.operation.caller.groups for group in groups)

    def query_value(self, key: str) -> Optional[str]:
        """The first value of a query parameter."""
        return next((value for name, value in self.operation.query if name == key), None)

    def claim(self, name: str) -> Any:
        """A verified claim of the caller's token."""
        return next((json.loads(value) for key, value in self.operation.caller.claims if key == name), None)

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
