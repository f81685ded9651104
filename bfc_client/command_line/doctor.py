"""``bfc doctor``: what is here, what is missing, what to do about it."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from bfc_client.client import Client
from bfc_client.command_line.output import table_to_stdout
from bfc_client.errors import BfcClientError
from bfc_client.settings import ClientSettings
from bfc_client.transport import Transport

OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 2 * 2**30
PROBE_TIMEOUT_SECONDS = 60
PARTS = {
    "core": ("torch", "jaxtyping"),
    "api": ("fastapi", "sqlalchemy", "celery", "uvicorn", "alembic"),
}

# Run in a process of its own: importing torch takes seconds and hundreds of megabytes, and a broken
# driver can end the process that asks.
_TORCH_PROBE = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "gpus": gpus, "built_for": torch.version.cuda}))
"""

State = Literal["fine", "note", "broken"]


class Finding(BaseModel):
    """One thing that was looked at."""

    subject: str
    state: State
    fact: str
    advice: str | None = None


def examine(url: str | None, settings: ClientSettings, data_dir: Path) -> list[Finding]:
    """Look at this machine, then at the server where there is an address."""
    findings = [
        _python(),
        *(_packages(part, names) for part, names in PARTS.items()),
        _torch(),
        _disk(data_dir),
    ]
    if url is None:
        findings.append(
            Finding(
                subject="server",
                state="note",
                fact=f"BFC_URL is not set and no stack runs in {data_dir}",
                advice="start one with `bfc up`, or set BFC_URL",
            )
        )
    else:
        findings.extend(_server(url, settings))
    return findings


def print_findings(findings: list[Finding]) -> None:
    """A table, and under it what to do."""
    marks = {"fine": ("✓", "green"), "note": ("·", "yellow"), "broken": ("✗", "red")}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = marks[finding.state]
        fact = finding.fact + (f"\n→ {finding.advice}" if finding.advice else "")
        table.add_row(Text(mark, style=style), Text(finding.subject), Text(fact))
    table_to_stdout(table)


def _python() -> Finding:
    fact = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding(subject="python", state="broken", fact=fact, advice="BFC needs Python 3.11 or newer")
    return Finding(subject="python", state="fine", fact=fact)


def _packages(part: str, names: tuple[str, ...]) -> Finding:
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Finding(
            subject=f"packages: {part}",
            state="note",
            fact=f"not installed: {', '.join(missing)}",
            advice=f"needed only to run a stack here: pip install 'bfc[{part}]', or make install",
        )
    fact = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding(subject=f"packages: {part}", state="fine", fact=fact)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Finding:
    if _version("torch") is None:
        return Finding(subject="accelerator", state="note", fact="torch is not installed here")
    try:
        probe = subprocess.run(  # noqa: S603 - this interpreter and a constant
            [sys.executable, "-c", _TORCH_PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_SECONDS,
            check=True,
        )
        found = json.loads(probe.stdout)
    except (subprocess.SubprocessError, ValueError, OSError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Finding(
            subject="accelerator",
            state="broken",
            fact=f"torch does not start: {lines[-1] if lines else error}",
            advice="install it anew: rm -rf .venv && make install",
        )
    if found["gpus"]:
        return Finding(
            subject="accelerator", state="fine", fact=f"torch {found['version']}: {', '.join(found['gpus'])}"
        )
    built_for = f"built for CUDA {found['built_for']}" if found["built_for"] else "built without CUDA"
    return Finding(
        subject="accelerator",
        state="fine",
        fact=f"torch {found['version']} ({built_for}): no GPU is visible, runs use the CPU",
    )


def _disk(data_dir: Path) -> Finding:
    folder = next(parent for parent in (data_dir.absolute(), *data_dir.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    fact = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return Finding(
            subject="disk", state="broken", fact=fact, advice="checkpoints and results need room: free 2 GiB"
        )
    return Finding(subject="disk", state="fine", fact=fact)


def _server(url: str, settings: ClientSettings) -> list[Finding]:
    try:
        with Client(Transport(url, settings.token, settings.timeout_seconds)) as client:
            is_ready, facts = client.readiness()
    except BfcClientError as error:
        return [
            Finding(
                subject="server",
                state="broken",
                fact=str(error),
                advice="start it, or correct BFC_URL; with `bfc up`, look at stack.log in its folder",
            )
        ]
    state: State = "fine" if is_ready else "broken"
    return [
        Finding(subject="server", state=state, fact=f"{url} is {'ready' if is_ready else 'not ready'}"),
        *_parts_of(facts),
    ]


_ADVICE = {
    "database": "start the database, or correct BFC_DATABASE_URL of the API",
    "migrations": "run the migrations step: python -m migrations",
    "broker": "start the broker, or correct BFC_BROKER_URL of the API; accepted runs wait for it",
    "store": "make the folder or bucket of BFC_STORE_URL, or correct its endpoint and credentials",
    "workers": "start a worker; accepted runs wait for one",
}


def _parts_of(facts: dict[str, Any]) -> list[Finding]:
    """The checks of /readyz, one finding each."""
    checks = facts.get("checks")
    return [
        Finding(
            subject=f"server: {name}",
            state=_state_of(check),
            fact=str(check.get("detail", "")),
            advice=check.get("warning") if check.get("ok") else _ADVICE.get(name),
        )
        for name, check in (checks.items() if isinstance(checks, dict) else ())
        if isinstance(check, dict)
    ]


def _state_of(check: dict[str, Any]) -> State:
    if not check.get("ok"):
        return "broken"
    return "note" if check.get("warning") else "fine"
