"""The refinement of the members of a batched program, with their restarts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.evaluation import Problem
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.training.lockstep import Lockstep
from bfc_core.training.members import Members
from bfc_core.training.objective import Objective
from bfc_core.training.refinement import Asking, Refinement, parameters_of
from bfc_core.training.restarts import EQUATIONS_BYTES, abreast, restarted
from bfc_core.training.schedule import Stage, refinement_bytes

TOGETHER_BYTES = 2**26
"""What the rows of the members that are refined at a time may fill, with those of their restarts; one may fill more."""


@dataclass(frozen=True)
class RefinedMember:
    """Where a refinement led, what it took, and which restart it is of (0: none)."""

    flat: Float[Tensor, " p"]
    restarts: int
    restart_kept: int
    flops: int


def refined_members(
    network: DistilledDenseNet,
    members: Members,
    problems: dict[int, Problem],
    objective: Objective,
    stage: Stage,
    restarts: int,
    goes_on: Callable[[], bool],
) -> Iterator[tuple[int, RefinedMember]]:
    """Refine the rows of ``members`` that ``problems`` names on their own samples, as a stage that refines says.

    Only a member's own numbers are read, in float64, so the members beside it change nothing. ``network`` is tied
    as the stage asks. ``goes_on`` is asked often and ends it by answering false: what has not ended then is left out.
    """
    rows = list(problems)
    together = _together(network, stage, max((members.rows[row] for row in rows), default=1))
    for start in range(0, len(rows), together):
        some = rows[start : start + together]
        lockstep = Lockstep(
            [
                refined_with_restarts(
                    _refinement(network, members, row, problems[row], objective, stage),
                    members.flat[row].double(),
                    stage.steps,
                    restarts,
                    members.seeds[row],
                )
                for row in some
            ]
        )
        lockstep.run(goes_on)
        for row, result, flops in zip(some, lockstep.results, lockstep.flops, strict=True):
            if result is not None:
                yield row, RefinedMember(*result, flops)


def _together(network: DistilledDenseNet, stage: Stage, rows: int) -> int:
    """Members refined at a time: as their normal equations and rows allow, of which large ones gain nothing."""
    parameters = parameters_of(network, stage.trainable)
    by_equations = EQUATIONS_BYTES // (8 * parameters**2 * abreast(parameters))
    by_rows = TOGETHER_BYTES // refinement_bytes(rows, network.dim)
    return max(1, min(by_equations, by_rows))


def refined_with_restarts(
    refinement: Refinement, entered: Float[Tensor, " p"], steps: int, restarts: int, seed: int
) -> Asking[tuple[Float[Tensor, " p"], int, int]]:
    """A descent from ``entered``, and what :func:`restarted` makes of it."""
    refined = yield from refinement.descent(entered, steps)
    return (yield from restarted(refinement, entered, refined, steps, restarts, seed))


def _refinement(
    network: DistilledDenseNet,
    members: Members,
    row: int,
    problem: Problem,
    objective: Objective,
    stage: Stage,
) -> Refinement:
    rows, device = members.rows[row], members.flat.device
    x, y = problem.x[:rows].to(device), problem.y[:rows].to(device)
    is_margin = objective.loss == "logistic"
    return Refinement(
        network,
        {level: lift[row].double() for level, lift in members.lifts.items()},
        {level: alpha[row].double() for level, alpha in members.alphas.items()},
        members.movable[row],
        x[:, 1:] if is_margin else x,
        y,
        x[:, 0] if is_margin else None,
        objective,
        stage.active,
        stage.trainable,
    )
