"""What runs learn from, drawn once for all of them that share it.

A target with its test rows is that of every learner and every n of one seed, the samples are those of every learner:
in a grid of five learners and six sizes a target is drawn once and not thirty times.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from bfc_core.evaluation import Problem, truth_of, with_samples
from bfc_core.specs import RunSpec
from bfc_core.truth import Truth

KEPT_BYTES = 64 * 2**20
"""Most bytes that are kept for runs that may come: some twenty test sets of the usual size and what is true of them."""

KEPT_TRUTHS = 32
"""Most targets that are kept: the planner puts runs of one seed beside each other."""


@dataclass
class _Kept:
    """A target with its test rows, and problems of it by n, the oldest first."""

    truth: Truth
    problems: dict[int, Problem] = field(default_factory=dict)

    def nbytes(self) -> int:
        return self.truth.nbytes() + sum(p.x.nbytes + p.y.nbytes for p in self.problems.values())


class PosedProblems:
    """Poses runs, one after another; keeps what the last ones were made of, up to a limit.

    What a run gets is the same to the last bit whether it is drawn or was kept, and nobody may change it.

    Args:
        limit_bytes: most that is kept; with 0 every run's problem is drawn anew.
        data_sets: the folder of users' files.
    """

    def __init__(self, limit_bytes: int = KEPT_BYTES, data_sets: Path | None = None) -> None:
        self._data_sets = data_sets
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def pose(self, spec: RunSpec) -> Problem:
        """A run's problem: what :func:`bfc_core.evaluation.pose` would draw for it, and raises what it would."""
        name = (
            f"{spec.target.canonical_json()}|{spec.inputs.canonical_json()}|{spec.dim}|{spec.seed}|"
            f"{spec.budget.test_samples}"
        )
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept[name] = _Kept(truth_of(spec, self._data_sets))
        self._kept.move_to_end(name)
        problem = kept.problems.get(spec.n)
        if problem is None:
            problem = kept.problems[spec.n] = with_samples(spec, kept.truth, self._data_sets)
            self._forget()
        return problem

    def kept_bytes(self) -> int:
        """Bytes of everything that is kept now."""
        return sum(kept.nbytes() for kept in self._kept.values())

    def _forget(self) -> None:
        """Drop the oldest targets, and of the newest the oldest samples, until what is left keeps to the limit."""
        total = self.kept_bytes()
        while self._kept and (total > self._limit_bytes or len(self._kept) > KEPT_TRUTHS):
            oldest = next(iter(self._kept.values()))
            if len(self._kept) == 1 and len(oldest.problems) > 1:
                before = oldest.nbytes()
                del oldest.problems[next(iter(oldest.problems))]
                total -= before - oldest.nbytes()
            else:
                total -= oldest.nbytes()
                self._kept.popitem(last=False)
