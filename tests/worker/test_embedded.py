"""``python -m service.embedded`` in folders that are not what it hopes for."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACK = [sys.executable, "-m", "service.embedded", "--port", "0", "--data-dir"]


def started(folder: Path, **options: object) -> subprocess.Popen:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BFC_")}  # noqa: TID251
    return subprocess.Popen(
        [*STACK, str(folder)], cwd=ROOT, env=inherited, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_database_lies_in_the_folder_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "50% done? #1"
    stack = started(folder)
    deadline = time.monotonic() + 60
    while not (folder / "embedded.json").exists():
        assert stack.poll() is None, stack.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stack.send_signal(signal.SIGTERM)
    stack.communicate(timeout=60)
    assert stack.returncode == 0
    assert (folder / "bfc.db").stat().st_size > 0
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("fault", ["a file", "no database", "a full disk"])
def test_a_folder_that_cannot_be_used_is_said_in_a_line(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "stack"
    options: dict[str, object] = {}
    if fault == "a file":
        folder.touch()
    else:
        folder.mkdir()
    if fault == "no database":
        (folder / "bfc.db").write_text("something else entirely\n" * 100)
    elif fault == "a full disk":
        # No file may grow beyond a page or two; the signal that would come with it is one that Python ignores.
        options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    stack = started(folder, **options)
    _, said = stack.communicate(timeout=60)
    assert stack.returncode == 2
    assert "Traceback" not in said
    assert str(folder) in said.splitlines()[-1]
