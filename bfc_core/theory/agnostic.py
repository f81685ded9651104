"""OPT: the least error that any function of a target's class can have (arXiv:2001.04413 §3, agnostic learning).

The agnostic theorem reads: with labels Y for which some function of the class has E(G* − Y)² ≤ OPT, the
learner reaches E(F − Y)² ≤ (1 + γ) OPT + ε².
"""

from bfc_core.specs.targets import LabelledTarget


def optimum_of(target: LabelledTarget) -> float:
    """OPT in units of the clean target's variance: the share outside the class plus the label noise.

    Exact for the noise; for the misspecified share to the accuracy to which the sine lies outside the class
    (docs/decisions/0021). Regression only.

    Raises:
        ValueError: the target is a classification.
    """
    if target.task == "classification":
        raise ValueError("OPT in units of variance belongs to regression")
    return target.misspecification + target.label_noise**2


def noisy_error(nmse: float, target: LabelledTarget) -> float:
    """E(F − Y)² / Var of the clean target, from the nMSE on clean fresh rows: noise is independent of x."""
    return nmse + target.label_noise**2
