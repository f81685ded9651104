"""The OpenAPI document, and its committed copy in docs/openapi.json.

``python -m service.schema FILE`` writes it; with ``--check`` it compares and exits 1 on drift.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.error_handlers import MEDIA_TYPE, Problem

PROBLEM_STATUSES = {
    "400": "The request cannot be read",
    "401": "No API key that holds",
    "403": "The key may not do this, or no key is needed and the request is not from this machine",
    "404": "There is no such thing",
    "408": "The body did not arrive",
    "409": "Not in its present state",
    "413": "The body is too large",
    "422": "The request does not fit its schema or this deployment",
    "429": "Faster, or more, than the key allows",
    "503": "The database does not answer",
}


def install_schema(app: FastAPI) -> None:
    """Make ``app.openapi`` answer the document with problems on every operation of the API."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["Problem"] = problem
    for schema in schemas.values():
        for described in schema.get("properties", {}).values():
            _say_default(described)
    answer = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key; not needed where the server answers on its loopback address without keys",
        }
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                operation["security"] = [{"key": []}]
            responses = operation["responses"]
            responses.pop("422", None)
            for status, description in PROBLEM_STATUSES.items():
                if path.startswith("/v1"):
                    responses.setdefault(status, {"description": description} | answer)
    return document


def _say_default(described: dict[str, Any]) -> None:
    """A default that is an object, in words: generators of clients stumble over one and leave out the operation."""
    if isinstance(described.get("default"), dict):
        words = f"if left out: {json.dumps(described.pop('default'), sort_keys=True)}"
        described["description"] = "; ".join(filter(None, [described.get("description"), words]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the committed document; the process's exit code."""
    from service.app import create_app  # noqa: PLC0415 - the application imports install_schema from here

    parser = argparse.ArgumentParser(prog="python -m service.schema", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args(arguments)
    text = json.dumps(create_app().openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if not options.check:
        options.file.write_text(text, encoding="utf-8")
        return 0
    if options.file.exists() and options.file.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{options.file} is not what the service answers: make openapi\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
