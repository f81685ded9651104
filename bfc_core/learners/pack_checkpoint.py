"""What a checkpoint of a pack of networks holds: all finished stages, and where the present group stands in its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bfc_core.learners.histories import History
from bfc_core.training.loop import StageState

SPENT = ("flops", "restarts", "restart_kept", "is_refined")
"""Of a history, what a stage may change before it ends, beside the parameters."""


def checkpoint_of(
    position: tuple[int, int],
    done: int,
    finished: Mapping[str, History],
    members: Mapping[str, History],
    flat: Float[Tensor, "e p"],
    state: StageState,
) -> dict[str, Any]:
    """The content of a checkpoint: ``members`` are those of the group at ``position`` (depth, number), by name."""
    return {
        "position": list(position),
        # For a worker of an earlier version, which may go on with this while an upgrade rolls; now it follows from
        # the position.
        "done": done,
        "histories": {key: vars(history) for key, history in finished.items()},
        "current": state.snapshot(flat),
        "members": [
            {"key": key, "spent": {name: getattr(history, name) for name in SPENT}}
            for key, history in members.items()
        ],
    }


def finished_histories(saved: Mapping[str, Any], device: str) -> dict[str, History]:
    """The networks as every finished stage left them, by name."""
    return {
        key: History(
            **{"flops": None} | values | {"flat": values["flat"].to(device), "ranks": dict(values["ranks"])}
        )
        for key, values in saved["histories"].items()
    }


def is_of(saved: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether a checkpoint's group has these members; an earlier version said only how many there were."""
    if "members" not in saved:
        return len(saved["current"]["flat"]) == len(keys)
    return [member["key"] for member in saved["members"]] == list(keys)


def take_spent(saved: Mapping[str, Any], entering: Sequence[History]) -> None:
    """What the members of a checkpoint's group have spent in its stage; an earlier version did not say."""
    for history, member in zip(entering, saved.get("members", ()), strict=False):
        vars(history).update(member["spent"])
