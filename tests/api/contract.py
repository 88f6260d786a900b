"""What clients may rely on, a line each: operations, parameters, bodies and answers of the OpenAPI document.

`python -m tests.api.contract` adds what is new to contract.txt. It never removes a line: a removal is a decision, made
by hand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.app import create_app

FILE = Path(__file__).with_name("contract.txt")
_DEPTH = 6


def lines(document: dict[str, Any]) -> set[str]:
    """`GET /path` (operation id), `GET /path ?parameter type`, `... <- body field type`, `... -> status field type`.
    A `!` marks what a request must have."""
    found: set[str] = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            at = f"{method.upper()} {path}"
            found.add(f"{at} = {operation['operationId']}")
            for parameter in operation.get("parameters", []):
                needed = "!" if parameter.get("required") else ""
                kind = _kind(parameter["schema"], document)
                found.add(f"{at} ?{parameter['in']}.{parameter['name']}{needed} {kind}")
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                found |= {f"{at} <- {media} {field}" for field in _fields(content.get("schema", {}), document, True)}
            for status, answer in operation["responses"].items():
                found.add(f"{at} -> {status}")
                for media, content in answer.get("content", {}).items():
                    if media != "application/problem+json":
                        fields = _fields(content.get("schema", {}), document, False)
                        found |= {f"{at} -> {status} {media} {field}" for field in fields}
    return found


def written() -> set[str]:
    return set(FILE.read_text().splitlines())


def _fields(
    schema: dict[str, Any], document: dict[str, Any], asked: bool, at: str = "", depth: int = 0
) -> Iterator[str]:
    schema = _resolved(schema, document)
    yield f"{at or '.'} {_kind(schema, document)}"
    if depth == _DEPTH:
        return
    for option in schema.get("anyOf", []):
        within = _fields(option, document, asked, at, depth + 1)
        next(within)  # the kinds of all options stand together above
        yield from within
    for name, field in schema.get("properties", {}).items():
        needed = "!" if asked and name in schema.get("required", []) else ""
        yield from _fields(field, document, asked, f"{at}.{name}{needed}", depth + 1)
    if "items" in schema:
        yield from _fields(schema["items"], document, asked, f"{at}[]", depth + 1)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _fields(schema["additionalProperties"], document, asked, f"{at}.*", depth + 1)


def _kind(schema: dict[str, Any], document: dict[str, Any]) -> str:
    schema = _resolved(schema, document)
    if "anyOf" in schema:
        return "|".join(_kind(option, document) for option in schema["anyOf"])
    if "enum" in schema:
        return "/".join(map(str, schema["enum"]))
    return str(schema.get("const") or schema.get("format") or schema.get("type", "any"))


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


if __name__ == "__main__":
    known = written() if FILE.exists() else set()
    FILE.write_text("\n".join(sorted(known | lines(create_app().openapi()))) + "\n")
