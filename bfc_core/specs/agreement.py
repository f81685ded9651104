"""What of a run's parts can be run together; each check complains at the part that can be changed."""

from collections.abc import Iterable, Iterator

from bfc_core.specs.baselines import EmpiricalNtk, Linear, Oracle, RandomFeatures
from bfc_core.specs.data_sets import DataSet
from bfc_core.specs.inputs import AnyInputs, CubeInputs, DataSetInputs, least_dim_of_inputs
from bfc_core.specs.kernels import ConvolutionalNetworkKernel, image_kernels
from bfc_core.specs.learners import AnyLearner, KernelRidge, Recipe
from bfc_core.specs.plain_targets import PlainTarget, is_constant_on_cube
from bfc_core.specs.targets import AnyTarget, LabelledTarget, least_dim

CLASSIFIERS = (KernelRidge, EmpiricalNtk, RandomFeatures, Linear)
"""Learners that solve for several outputs at once."""


def check_agreement(target: AnyTarget, inputs: AnyInputs, learners: Iterable[AnyLearner]) -> None:
    """Refuse what cannot be run together.

    Raises:
        ValueError: a network with levels on a target without them, a target that vanishes under its input law, a data
            set with another law than its own rows, or a learner that cannot tell several classes apart.
    """
    if isinstance(target, DataSet) != isinstance(inputs, DataSetInputs):
        raise ValueError(
            'the inputs "data_set" and the targets "images" and "array" belong together: '
            '{"inputs": {"kind": "data_set"}}'
        )
    if isinstance(inputs, CubeInputs) and not isinstance(target, PlainTarget):
        raise ValueError(  # noqa: TRY004 - a value of the spec, not of a call
            f"on the cube x² = 1, so the levels of {target.kind} vanish: choose Gaussian inputs"
        )
    for learner in learners:
        if isinstance(learner, Recipe) and isinstance(target, PlainTarget | DataSet):
            raise ValueError(  # noqa: TRY004
                f"{learner.kind} is told the levels of a hierarchy, and the target {target.kind} has none"
            )
        is_of_classes = isinstance(target, DataSet) and target.sizes.classes is not None
        if is_of_classes and not isinstance(learner, CLASSIFIERS):
            raise ValueError(
                f"{learner.kind} learns one number, and {target.kind} has classes: choose kernel_ridge, "
                "empirical_ntk, random_features or linear"
            )
        if isinstance(target, DataSet) and isinstance(learner, Oracle) and learner.knows != "constant":
            raise ValueError(
                f'nobody knows what stands behind a data set: of the oracle only "constant" can be asked on '
                f"{target.kind}"
            )
        is_longer = isinstance(target, LabelledTarget) and target.task == "classification"
        if is_longer and any(True for _ in _image_kernels_of(learner)):
            raise ValueError("in classification rows are (x₀, x), one longer than dim: they are no images")


def has_classes(target: AnyTarget) -> bool:
    """Whether labels are classes, so that a predictor has an error (1 − accuracy) beside its nMSE."""
    if isinstance(target, DataSet):
        return target.sizes.classes is not None
    return isinstance(target, LabelledTarget) and target.task == "classification"


def check_samples(n: int, target: AnyTarget) -> None:
    """Refuse more training samples than there are.

    Raises:
        ValueError: the data set is smaller.
    """
    if isinstance(target, DataSet) and n > target.sizes.training:
        raise ValueError(f"{target.name} has {target.sizes.training} training rows, n is {n}")


def check_least_dim(dim: int, target: AnyTarget, inputs: AnyInputs) -> None:
    """Refuse a dimension on which the target or the input law does not exist, or the target is constant.

    Raises:
        ValueError: naming the least dimension, or the one on which the target is constant.
    """
    smallest = least_dim(target)
    if dim < smallest:
        raise ValueError(f"dim {dim} is too small: this target needs dim ≥ {smallest}")
    if dim < least_dim_of_inputs(inputs):
        raise ValueError(f"dim {dim} is too small: these inputs need dim ≥ 2")
    if (
        isinstance(inputs, CubeInputs)
        and isinstance(target, PlainTarget)
        and is_constant_on_cube(target, dim)
    ):
        raise ValueError(
            f"on the cube x² = 1, and at dim {dim} that leaves {target.kind} constant: choose another dim or "
            "Gaussian inputs"
        )


def check_dim(dim: int, target: AnyTarget, learners: Iterable[AnyLearner]) -> None:
    """Refuse a dimension that a data set or images do not have.

    Raises:
        ValueError: ``dim`` is not that of the data set's rows, or not height × width × channels of a kernel on images.
    """
    if isinstance(target, DataSet) and dim != target.sizes.dim:
        raise ValueError(f"the rows of {target.name} have dim {target.sizes.dim}, not {dim}")
    for number, learner in enumerate(learners):
        for place, kernel in _image_kernels_of(learner):
            if kernel.image_dim != dim:
                sides = " × ".join(map(str, kernel.image))
                raise ValueError(
                    f"the kernel {place}of learner {number} reads images of {sides} = {kernel.image_dim} numbers, "
                    f"dim is {dim}"
                )


def _image_kernels_of(learner: AnyLearner) -> Iterator[tuple[str, ConvolutionalNetworkKernel]]:
    if isinstance(learner, KernelRidge):
        for place, kernel in image_kernels(learner.kernel):
            yield (f"{place[:-1]} " if place else ""), kernel
