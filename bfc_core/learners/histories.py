"""Which runs of a pack are the same network, and until when."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.specs import Hierarchy, RunSpec
from bfc_core.training.schedule import Stage


@dataclass
class History:
    """One distinct network: the run that trained it, its parameters and ranks, and whether it is still finite."""

    run: int
    flat: Float[Tensor, " p"]
    ranks: dict[int, int]
    finite: bool = True
    steps: int = 0
    flops: int | None = 0
    """As if the run had made all of it alone; None where a checkpoint of an earlier version did not say."""
    restarts: int = 0
    restart_kept: int = 0
    """Number of the restart that the network is of; 0 where none led lower, or none was tried."""
    is_refined: bool = False
    """Whether the refinement of its stage is behind it."""

    def spend(self, flops: int | None) -> None:
        """Add to ``flops``; what is not known makes the sum unknown."""
        self.flops = None if self.flops is None or flops is None else self.flops + flops


class SharedBeginnings:
    """Names the history of every run after so many stages: equal names are one network, trained once.

    Args:
        specs: the runs of a pack.
        hierarchies: what each run's learner is told of its target.
        stages: the stages of each run.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        hierarchies: Sequence[Hierarchy],
        stages: Sequence[Sequence[Stage]],
    ) -> None:
        self._stages = stages
        self._keys = [
            [
                _hash(f"{spec.target.canonical_json()}|{told}|{spec.n}|{spec.seed}|{ahead[:depth]}")
                for depth in range(len(ahead) + 1)
            ]
            for spec, told, ahead in zip(specs, hierarchies, stages, strict=True)
        ]

    def key(self, run: int, depth: int) -> str:
        """Names the history of a run after ``depth`` stages."""
        return self._keys[run][depth]

    def groups(self, depth: int, together: int) -> list[list[int]]:
        """Runs that go through their stages at ``depth`` side by side, one run a distinct history.

        Those that enter one stage are stepped together, at most ``together`` of them; refinements are one group,
        whatever they move, for few of them have equal shapes and the others cost them nothing.
        """
        groups: dict[Stage | int, dict[str, int]] = {}
        for run, stages in enumerate(self._stages):
            stage = stages[depth]
            alike = stage.steps if stage.refines else stage
            groups.setdefault(alike, {}).setdefault(self.key(run, depth + 1), run)
        parts = []
        for alike, members in groups.items():
            runs = list(members.values())
            size = together if isinstance(alike, Stage) else len(runs)
            parts += [runs[start : start + size] for start in range(0, len(runs), size)]
        return parts

    def steps_at(self, depth: int, together: int) -> int:
        """Steps of all groups at ``depth``."""
        return len(self.groups(depth, together)) * self._stages[0][depth].steps

    def steps_before(self, depth: int, run: int) -> int:
        """Steps of a run's stages before ``depth``."""
        return sum(earlier.steps for earlier in self._stages[run][:depth])

    def sharers(self, run: int, depth: int) -> list[int]:
        """Every run that is the same network as ``run`` through ``depth`` stages."""
        key = self.key(run, depth)
        return [other for other, keys in enumerate(self._keys) if keys[depth] == key]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
