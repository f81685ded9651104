"""The refinement of one member of a batched program, with its restarts."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from bfc_core.evaluation import Problem
from bfc_core.flops.counting import FlopCounter
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.training.members import Members
from bfc_core.training.objective import Objective
from bfc_core.training.refinement import Refinement
from bfc_core.training.restarts import restarted
from bfc_core.training.schedule import Stage


@dataclass(frozen=True)
class RefinedMember:
    """Where a refinement led, what it took, and which restart it is of (0: none)."""

    flat: Float[Tensor, "1 p"]
    restarts: int
    restart_kept: int
    flops: int


def refine_member(
    network: DistilledDenseNet,
    members: Members,
    row: int,
    problem: Problem,
    objective: Objective,
    stage: Stage,
    restarts: int,
) -> RefinedMember:
    """Refine row ``row`` of ``members`` on its own training samples, as a stage that refines says.

    Only its own numbers are read, in float64, so the members beside it change nothing. ``network`` is tied
    as the stage asks.
    """
    rows, device = members.rows[row], members.flat.device
    x, y = problem.x[:rows].to(device), problem.y[:rows].to(device)
    is_margin = objective.loss == "logistic"
    refinement = Refinement(
        network,
        {level: lift[row : row + 1].double() for level, lift in members.lifts.items()},
        {level: alpha[row : row + 1].double() for level, alpha in members.alphas.items()},
        members.movable[row : row + 1],
        x[:, 1:] if is_margin else x,
        y,
        x[:, 0] if is_margin else None,
        objective,
        stage.active,
        stage.trainable,
    )
    entered = members.flat[row : row + 1].double()
    with FlopCounter() as counter:
        found, tried, kept = restarted(
            refinement,
            entered,
            refinement.run(entered, stage.steps),
            stage.steps,
            restarts,
            members.seeds[row],
        )
    return RefinedMember(found, tried, kept, counter.flops)
