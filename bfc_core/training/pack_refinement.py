"""The refinement of the members of a batched program, with their restarts."""

from collections.abc import Callable
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


@dataclass(frozen=True)
class Task:
    """What a member is refined on, and the stage that says how."""

    problem: Problem
    stage: Stage


def refine_members(
    network: DistilledDenseNet,
    members: Members,
    tasks: dict[int, Task],
    objective: Objective,
    restarts: int,
    ended: Callable[[int, RefinedMember], None],
    goes_on: Callable[[], bool],
) -> None:
    """Refine the rows of ``members`` that ``tasks`` names, each on its own samples as its stage says, in float64.

    Only a member's own numbers are read, so the members beside it change nothing. ``ended`` is told of each as it ends.
    ``goes_on`` is asked often and ends it by answering false: of what has not ended then nothing is told.
    """
    if not tasks:
        return
    rows = list(tasks)

    def refined(row: int, task: Task) -> Asking[tuple[Float[Tensor, " p"], int, int]]:
        # Begun late: what it makes of its rows takes memory.
        refinement = _refinement(network, members, row, task, objective)
        entered, seed = members.flat[row].double(), members.seeds[row]
        return (yield from refined_with_restarts(refinement, entered, task.stage.steps, restarts, seed))

    def tell(number: int) -> None:
        result = lockstep.results[number]
        assert result is not None
        ended(rows[number], RefinedMember(*result, lockstep.flops[number]))

    together = min(_together(network, task.stage, members.rows[row]) for row, task in tasks.items())
    lockstep = Lockstep([refined(row, task) for row, task in tasks.items()], together, tell)
    lockstep.run(goes_on)


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
    task: Task,
    objective: Objective,
) -> Refinement:
    rows, device, stage = members.rows[row], members.flat.device, task.stage
    x, y = task.problem.x[:rows].to(device), task.problem.y[:rows].to(device)
    is_margin = objective.loss == "logistic"
    return Refinement(
        network.with_tied(stage.tied).untruncated(),
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
