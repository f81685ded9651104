"""Input laws: where x comes from.

Every law here has mean 0 and E[x_j²] = 1 for every coordinate j, so that level 1 of a target is
x² − 1 under each of them (docs/decisions/0020). The paper asks for laws that are hypercontractive and
degree-preserving: N(0, I), N(0, Σ) with Σ well-conditioned, and mixtures of N(0, Σ_i²) whose j-th row
norms agree (arXiv:2001.04413 §3).
"""

from typing import Annotated, Literal

from pydantic import Field

from bfc_core.specs.base import Spec

ConditionNumber = Annotated[
    float,
    Field(ge=1, le=1000, allow_inf_nan=False, description="largest over smallest eigenvalue of a covariance"),
]


class GaussianInputs(Spec):
    """x ~ N(0, I): isotropic, hypercontractive and degree-preserving (arXiv:2001.04413 §3)."""

    kind: Literal["gaussian"]


class CorrelatedGaussianInputs(Spec):
    """x ~ N(0, Σ), Σ drawn from the seed with unit diagonal and exactly the declared condition number.

    The eigenvalues of Σ are spaced evenly on a log scale; its eigenvectors are random.
    """

    kind: Literal["correlated_gaussian"]
    condition_number: ConditionNumber = 4.0


class GaussianMixtureInputs(Spec):
    """x from one of several N(0, Σ_i²) with equal chance; the Σ_i are drawn from the seed.

    Row j of every Σ_i has norm 1, so the row norms agree as arXiv:2001.04413 §3 requires; the covariance
    Σ_i² has the declared condition number. The mixture is no Gaussian: the products x_j x_k have
    component-dependent means.
    """

    kind: Literal["gaussian_mixture"]
    components: Annotated[int, Field(ge=2, le=16)] = 3
    condition_number: ConditionNumber = 4.0


class CubeInputs(Spec):
    """x uniform on {−1, 1}^dim, for targets that are products of coordinates. There x² = 1, so no level 1 exists."""

    kind: Literal["cube"]


class DataSetInputs(Spec):
    """Rows of a finite data set, which the target brings: its training rows in an order drawn from the seed."""

    kind: Literal["data_set"]


InputLaw = GaussianInputs | CorrelatedGaussianInputs | GaussianMixtureInputs | CubeInputs
"""Laws from which any number of rows can be drawn."""

AnyInputs = InputLaw | DataSetInputs
InputSpec = Annotated[AnyInputs, Field(discriminator="kind", title="InputSpec")]


def least_dim_of_inputs(inputs: AnyInputs) -> int:
    """The smallest dimension on which the law exists: a correlation needs two coordinates."""
    if isinstance(inputs, GaussianInputs | CubeInputs | DataSetInputs) or inputs.condition_number == 1:
        return 1
    return 2
