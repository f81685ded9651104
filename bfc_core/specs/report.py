"""What a run answers: an outcome, metrics, cost; and the measurements made on the way."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bfc_core.specs.base import Spec


class Outcome(StrEnum):
    """How a run ended. ``diverged`` is a finding, ``failed`` a defect."""

    SUCCEEDED = "succeeded"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


def _finite_or_none(value: Any) -> Any:  # noqa: ANN401 - whatever a metric returned
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_infinities(value: Any) -> Any:  # noqa: ANN401 - whatever a learner chose
    if not isinstance(value, Mapping):
        return value
    return {name: one for name, one in value.items() if _finite_or_none(one) is not None}


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A float, or null where it was not finite: NaN and infinity never enter JSON."""


class Metrics(Spec):
    """Everything measured on fresh samples. Level keys are the target's levels ("2", "3", …)."""

    nmse: Number = Field(
        description="E(f̂ − f)² / Var f on fresh points; values above 1 are legal. In classification f is the "
        "label ±1 and f̂ its prediction, on images f is the one-hot vector of the class"
    )
    accuracy: Number = Field(default=None, description="share of fresh labels predicted; classification only")
    error: Number = Field(default=None, description="1 − accuracy")
    level_coefficient: dict[int, Number] = Field(
        default_factory=dict,
        description="β_ℓ: the predictor's coefficient on the part of level ℓ that lower levels do not explain",
    )
    variance_explained: dict[int, Number] = Field(
        default_factory=dict, description="1 − (1 − β_ℓ)²: how much of that part's variance the predictor has"
    )
    degree_coefficient: dict[int, Number] = Field(
        default_factory=dict,
        description="β_k by degree: the predictor's regression coefficient on the target's part of Hermite degree k "
        "(under N(0, I); on the cube, of parities of k coordinates), on 1000 test rows; empty where that part is not "
        "known",
    )
    degree_variance_explained: dict[int, Number] = Field(
        default_factory=dict, description="1 − (1 − β_k)² by degree"
    )
    feature_error: dict[int, Number] = Field(
        default_factory=dict, description="orthogonal Procrustes error of S_ℓ against S*_ℓ over E‖S*_ℓ‖²"
    )
    feature_error_scale_free: dict[int, Number] = Field(
        default_factory=dict, description="the same after the best common scale of S_ℓ"
    )
    form_error: dict[int, Number] = Field(
        default_factory=dict,
        description="min over c of ‖M̂ − cM*‖/‖cM*‖ for the quadratic form M of the lowest level: KᵀK of level 2, "
        "W₁ᵀ diag(v₁) W₁ of a quadratic network's lower layer",
    )


class Report(Spec):
    """The one result of one run."""

    outcome: Outcome
    metrics: Metrics | None = None
    seconds: float = Field(ge=0, description="wall time of the pack's work divided among its runs")
    solve_seconds: float | None = Field(
        default=None,
        ge=0,
        description="of a kernel machine: wall time of its fit (gram, factorisation, choice of the ridge), without "
        "sampling and evaluation",
    )
    steps: int = Field(default=0, ge=0, description="optimiser steps of this run")
    flops: int | None = Field(
        default=None,
        ge=0,
        description="floating-point operations of its fit, tuning included, and of one prediction of the test samples, "
        "as if it had run alone; a multiply-add counts 2 (docs/notation.md says what is counted)",
    )
    selection: Annotated[dict[str, float | int | str | bool], BeforeValidator(_without_infinities)] = Field(
        default_factory=dict,
        description="what the learner chose: ridge, bandwidth, ranks, whether at a grid's edge; a number that is not "
        "finite is left out",
    )
    warnings: tuple[str, ...] = ()
    message: str | None = Field(default=None, description="why a run did not succeed and what to try")


Point = tuple[str, int, str | None, int | None, float | None]
"""A measurement as thousands of them travel from the training to the database: name, step, stage, level, value."""


class Measurement(Spec):
    """One number at one step."""

    name: str
    step: int = Field(ge=0)
    stage: str | None = None
    level: int | None = None
    value: Number

    @property
    def point(self) -> Point:
        """The same without the fields' names."""
        return (self.name, self.step, self.stage, self.level, self.value)
