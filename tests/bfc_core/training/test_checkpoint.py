"""A checkpoint under a process that dies: cut off after every single operation on the disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bfc_core.checkpoint import KEEP, CheckpointFolder


class DeathError(BaseException):
    """The process is gone; nothing after it happens."""


def cut_off(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let ``after`` operations on the disk happen, and none that follows."""
    left = [after]

    def counted(operation: Callable) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            if left[0] == 0:
                raise DeathError
            left[0] -= 1
            return operation(*arguments, **named)

        return call

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def state_of(value: float) -> dict:
    return {"weights": torch.full((3,), value)}


@pytest.mark.parametrize("again", [False, True], ids=["a newer step", "the same step once more"])
def test_a_save_that_is_cut_off_anywhere_leaves_the_old_checkpoint_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    found = []
    for after in range(40):
        folder = CheckpointFolder(tmp_path / str(after))
        for step in range(1, KEEP + 1):
            folder.save(step, state_of(step))
        with monkeypatch.context() as patch:
            cut_off(patch, after)
            try:
                folder.save(KEEP if again else KEEP + 1, state_of(9.0))
                is_cut = False
            except DeathError:
                is_cut = True
        heir = CheckpointFolder(tmp_path / "heir", earlier=(tmp_path / str(after),))
        loaded = heir.load()
        assert loaded is not None
        found.append(float(loaded["weights"][0]))
        # What was cut off is tidied up by the next save.
        folder.save(KEEP + 2, state_of(7.0))
        assert len(list((tmp_path / str(after)).glob("step-*.pt"))) == KEEP
        if not is_cut:
            break
    else:
        pytest.fail("a save does not end")
    assert found == sorted(found), "old until some operation, new from there on"
    assert set(found) == {float(KEEP), 9.0}
    assert len(found) > 8, "every operation was a place to die at"


def test_a_content_without_its_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)

    def die(_content: Path) -> None:
        raise DeathError

    folder.saving = die
    with pytest.raises(DeathError):
        folder.save(1, state_of(1.0))
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]
    assert CheckpointFolder(tmp_path).load() is None
