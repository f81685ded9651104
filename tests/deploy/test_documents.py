"""What the documents name exists: files, make targets, commands, paths of the API, and specs that are specs."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from bfc_client.command_line.app import app
from bfc_core.specs import ExperimentSpec

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def every(pattern: re.Pattern, name: str) -> list[str]:
    return pattern.findall((ROOT / name).read_text())


def commands(name: str) -> list[str]:
    """Inline code and the lines of shell blocks."""
    lines = every(CODE, name)
    for language, block in FENCE.findall((ROOT / name).read_text()):
        if language == "sh":
            lines += [line.split("#")[0].strip() for line in block.splitlines()]
    return lines


def test_the_documents_that_a_newcomer_looks_for_are_there() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/api.md"} <= set(
        NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name) -> None:
    folder = (ROOT / name).parent
    assert [link for link in every(LINK, name) if not (folder / link).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_paths_in_code_marks_exist(name) -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()}
    paths = [text for text in every(CODE, name) if re.fullmatch(r"[\w./-]+/[\w./-]*", text)]
    missing = [
        path for path in paths if path.split("/")[0] in tops - {"build"} and not (ROOT / path).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {match[1] for text in commands(name) if (match := re.match(r"make ([a-z-]+)\b", text))}
    assert asked - known == set()


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name) -> None:
    known = set(get_command(app).commands)
    asked = {
        match[1] for text in commands(name) if (match := re.match(r"(?:\.venv/bin/)?bfc ([a-z-]+)\b", text))
    }
    assert asked - known == set()


@pytest.mark.parametrize("name", NAMES)
def test_api_paths_exist(name) -> None:
    paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    known = {re.sub(r"\{\w+\}", "{id}", path) for path in paths}
    found = {match for text in commands(name) for match in re.findall(r"/v1/[\w/{}.-]*[\w}]", text)}
    asked = {re.sub(r"\{\w+\}", "{id}", path) for path in found}
    assert [path for path in asked if not any(other.startswith(path) for other in known)] == []


def test_the_spec_of_the_readme_is_a_spec() -> None:
    blocks = [
        block for language, block in FENCE.findall((ROOT / "README.md").read_text()) if language == "json"
    ]
    assert blocks
    for block in blocks:
        assert ExperimentSpec.model_validate_json(block).cell_count() > 0
