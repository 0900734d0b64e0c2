"""Adds the other forms of ProtoJSON that the service accepts: an enum's number, a number as text, a 64-bit number as a
number. The document has only the forms of responses, because generated clients reject a schema of several types; without
the other forms, schemathesis would report every accepted one."""

from typing import Any

import schemathesis

OTHERS = {
    "int32": {"type": "string", "pattern": "^-?[0-9]{1,10}$"},
    "int64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "enum": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
}


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    widen(raw_schema)


def widen(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            widen(item)
    elif isinstance(node, dict):
        for value in list(node.values()):
            widen(value)
        other = OTHERS.get("enum" if "enum" in node and "type" in node else str(node.get("format")))
        if other is not None and "type" in node:
            schema = dict(node)
            node.clear()
            node["anyOf"] = [schema, dict(other)]
