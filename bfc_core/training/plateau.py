"""When a member of a pack has learnt what its stage can teach: its validation objective stops improving.

The paper activates the next level when the objective falls below a threshold; without the constants of such
thresholds a plateau says the same. Members of one pack leave a stage at different steps: who has left is
frozen and waits, and the batches of the next stage do not depend on when it was, so a member's numbers are
those that it has alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Plateau:
    """The best validation objective of every member, the step of it, and who has left after how many steps.

    A value counts as an improvement when it is below (1 − tolerance) · best.
    """

    best: Float[Tensor, " e"]
    best_step: Int[Tensor, " e"]
    left: Bool[Tensor, " e"]
    taken: Int[Tensor, " e"]

    @classmethod
    def fresh(cls, members: int) -> "Plateau":
        """Nobody has been looked at."""
        return cls(
            torch.full((members,), torch.inf, dtype=torch.float64),
            torch.zeros(members, dtype=torch.int64),
            torch.zeros(members, dtype=torch.bool),
            torch.zeros(members, dtype=torch.int64),
        )

    def look(
        self, objective: Float[Tensor, " e"], step: int, patience: int, tolerance: float
    ) -> Bool[Tensor, " e"]:
        """Take in the objectives after ``step`` steps; who leaves now, after ``patience`` steps without gain."""
        objective = objective.double().cpu()
        better = (objective < (1 - tolerance) * self.best) & ~self.left
        self.best = torch.where(better, objective, self.best)
        self.best_step[better] = step
        leaving = ~self.left & (step - self.best_step >= patience)
        self.left |= leaving
        self.taken[leaving] = step
        return leaving

    def close(self, step: int) -> None:
        """The stage is over: who is still here leaves now."""
        self.taken[~self.left] = step
        self.left |= True
