"""What theory draws over a learning curve: where a kernel begins to learn a degree, where it peaks, and how it falls.

Lines are positions on the axis of n. They speak of rotation-invariant kernels, so an experiment without kernel ridge
has none. Curves need the kernel's spectrum under the input law and the target's variance by degree, which are known in
closed form for an RBF of one bandwidth and one ridge on the cube and a target of products of coordinates. Torch-free.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

from bfc_core.specs import AnyLearner, CubeInputs, ExperimentSpec, KernelHardInstance, KernelRidge, label_of
from bfc_core.specs.kernels import RbfKernel
from bfc_core.specs.plain_targets import Harmonic, Staircase
from bfc_core.theory.learning_curve import (
    degree_thresholds,
    expected_mse,
    interpolation_peaks,
    rbf_on_the_cube,
)
from bfc_core.theory.sheets import sheet_of

POINTS = 60
"""Of a curve, evenly spaced in log n."""


@dataclass(frozen=True)
class Line:
    """A number of samples that theory speaks of."""

    kind: Literal["threshold", "peak", "lower bound"]
    label: str
    n: float


@dataclass(frozen=True)
class Curve:
    """Expected nMSE at some n, of the learner with this label."""

    label: str
    points: tuple[tuple[float, float], ...]


def lines_of(spec: ExperimentSpec, dim: int) -> list[Line]:
    """Thresholds dim^ℓ, peaks dim^r/r! and the lower bound of the hard instance, within an octave of the grid of n."""
    if not any(isinstance(learner, KernelRidge) for learner in spec.learners):
        return []
    sheet = sheet_of(spec.target)
    degrees = range(1, sheet.degree + 1) if sheet is not None else ()
    lines = [
        Line("threshold", f"dim^{degree}", n) for degree, n in degree_thresholds(dim, tuple(degrees)).items()
    ]
    # The peak of degree 1 is the threshold of degree 1.
    lines += [
        Line("peak", f"dim^{degree}/{degree}!", n)
        for degree, n in interpolation_peaks(dim, tuple(degrees)).items()
        if degree > 1
    ]
    if isinstance(spec.target, KernelHardInstance):
        support = spec.target.sparsity
        lines.append(Line("lower bound", f"C(dim, {support})/1000", comb(dim, support) / 1000))
    return [line for line in lines if min(spec.n) / 2 <= line.n <= 2 * max(spec.n)]


def curves_of(spec: ExperimentSpec, dim: int) -> list[Curve]:
    """The expected learning curve of every learner whose spectrum is known here."""
    power = _variance_by_degree(spec)
    if power is None:
        return []
    variance = sum(power.values())
    noise = spec.target.label_noise**2 * variance if isinstance(spec.target, Staircase | Harmonic) else 0.0
    low, high = min(spec.n), max(spec.n)
    sizes = [low * (high / low) ** (step / (POINTS - 1)) for step in range(POINTS)]
    curves = []
    for learner, label in zip(spec.learners, _labels(spec.learners), strict=True):
        known = _bandwidth_and_ridge(learner)
        if known is None:
            continue
        spectrum = rbf_on_the_cube(dim, known[0])
        # Runs are judged on clean points: the noise enters the fit, and not the test.
        points = tuple(
            (n, (expected_mse(spectrum, power, n, known[1], noise) - noise) / variance) for n in sizes
        )
        curves.append(Curve(label, points))
    return curves


def _labels(learners: Sequence[AnyLearner]) -> list[str]:
    return [label_of(learner) for learner in learners]


def _bandwidth_and_ridge(learner: AnyLearner) -> tuple[float, float] | None:
    if not isinstance(learner, KernelRidge) or not isinstance(learner.kernel, RbfKernel):
        return None
    is_plain = learner.feature_map == "identity" and learner.solver != "nystrom"
    if not is_plain or len(learner.kernel.bandwidths) != 1 or len(learner.ridges or ()) != 1:
        return None
    assert learner.ridges is not None
    return learner.kernel.bandwidths[0], learner.ridges[0]  # relative to a diagonal of ones


def _variance_by_degree(spec: ExperimentSpec) -> dict[int, float] | None:
    """The target's variance by degree on the cube; None where this file does not know it."""
    if not isinstance(spec.inputs, CubeInputs):
        return None
    match spec.target:
        case Staircase():
            coefficients = spec.target.coefficients or (1.0,) * len(spec.target.sets)
            power: defaultdict[int, float] = defaultdict(float)
            for one, coefficient in zip(spec.target.sets, coefficients, strict=True):
                power[len(one)] += coefficient**2
            return dict(power)
        case Harmonic(form="parity"):
            return {spec.target.degree: 1.0}
        case _:
            return None
