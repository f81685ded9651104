"""A spec from a YAML or JSON file, checked before anything is sent."""

import json
import re
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from bfc_client.command_line.output import CommandRefused, ExitCode
from bfc_client.spec_check import Checked, checked_spec

LARGEST_FILE_BYTES = 2**20


class _Yaml(yaml.SafeLoader):
    """YAML whose numbers are those of JSON: 1e-3 is a number here, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the library's signature
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) != len(names):
            raise yaml.constructor.ConstructorError(
                None, None, "a name stands twice in one mapping", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_spec(path: Path, kind: type[Checked]) -> Checked:
    """The spec in a file; ``-`` is standard input. The ending .json is read as JSON, all else as YAML.

    Raises:
        CommandRefused: there is no such file, or it is neither.
        InvalidSpec: it holds something else than a spec of this kind.
    """
    return checked_spec(_document(path, _text(path)), kind)


def _text(path: Path) -> str:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(LARGEST_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE_BYTES + 1)
        if len(content) > LARGEST_FILE_BYTES:
            raise CommandRefused(
                f"{path} is larger than 1 MiB; split it into several experiments", ExitCode.USAGE
            )
        return content.decode("utf-8")
    except OSError as error:
        raise CommandRefused(f"cannot read {path}: {error.strerror}", ExitCode.USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandRefused(f"{path} is not UTF-8 text", ExitCode.USAGE) from error


def _document(path: Path, text: str) -> object:
    try:
        if path.suffix == ".json":
            document: object = json.loads(text)
            return document
        return yaml.load(text, Loader=_Yaml)  # noqa: S506 - a SafeLoader with stricter mappings
    except json.JSONDecodeError as error:
        raise CommandRefused(
            f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}", ExitCode.USAGE
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise CommandRefused(f"{path} is not YAML: {place}{error.problem}", ExitCode.USAGE) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CommandRefused(f"{path} is not a document: {error}", ExitCode.USAGE) from error
