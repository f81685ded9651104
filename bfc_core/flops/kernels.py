"""FLOPs of kernel learners: grams and predictions from what a pair of points costs, and plans. Free of torch.

Letters: n samples, r features or centres, t targets (classes), s = t + 1 right-hand sides, g ridges of a path.
"""

from dataclasses import dataclass
from math import prod

from bfc_core.flops.algebra import eigendecomposition, product, triangular_solve
from bfc_core.kernel_cost import (
    BLOCK_ROWS,
    EIGENDECOMPOSITION_LIMIT,
    FEATURE_MACHINE_SUBSAMPLE,
    FINALISTS,
    PANEL,
    REFITS,
    SUBSAMPLE,
    TYPICAL_ITERATIONS,
    is_solved_by_eigendecomposition,
    is_solved_by_features,
    kernel_rank,
)
from bfc_core.specs import AnyKernel, KernelRidge, RecursiveFeatureMachine
from bfc_core.specs.kernels import (
    ConvolutionalKernel,
    ConvolutionalNetworkKernel,
    RbfKernel,
    bandwidths_of,
    plain_kernels,
)

DEFAULT_RIDGE_COUNT = 29
"""Ridges of the grid that is taken where a learner names none."""

_PIXEL_RELU = 16
"""Operations of a ReLU on one pair of pixels: two roots, an arc tangent and what joins them."""


@dataclass(frozen=True)
class PairFlops:
    """What a kernel costs: for a pair of points, for a row of either side of every block, and for its diagonal."""

    pair: int
    row: int = 0
    diagonal: int = 0

    def __add__(self, other: "PairFlops") -> "PairFlops":
        """Of a sum or product of two kernels."""
        return PairFlops(self.pair + other.pair, self.row + other.row, self.diagonal + other.diagonal)

    def block(self, rows: int, columns: int) -> int:
        """One block."""
        return self.pair * rows * columns + self.row * (rows + columns)

    def gram(self, n: int) -> int:
        """The symmetric gram: blocks of the lower triangle, whole ones on the diagonal."""
        blocks, rest = divmod(n, BLOCK_ROWS)
        whole = BLOCK_ROWS**2 * blocks * (blocks + 1) // 2
        pairs = whole + rest * n
        return self.pair * pairs + self.row * n * (_blocks(n) + 1) + self.diagonal * n

    def cross(self, rows: int, columns: int) -> int:
        """All blocks between two sets of points."""
        return self.pair * rows * columns + self.row * (rows * _blocks(columns) + columns * _blocks(rows))

    def predictions(self, rows: int, anchors: int, targets: int = 1) -> int:
        """Σ_i α_i k(x, x_i) for so many x."""
        return self.cross(rows, anchors) + product(rows, anchors, targets)

    def gram_products(self, n: int, columns: int = 1) -> int:
        """K v without ever holding K."""
        return self.gram(n) + product(n, n, columns)


@dataclass(frozen=True)
class FeatureFlops(PairFlops):
    """Of a kernel that is defined by its features: ``row`` makes those of a row, ``pair`` is their product."""

    def gram(self, n: int) -> int:
        """The features once, then one product."""
        return self.pair * n**2 + self.row * n


@dataclass(frozen=True)
class TangentFlops(PairFlops):
    """Of a finite network's tangent kernel: ``row`` is one pass forward and back."""

    def gram(self, n: int) -> int:
        """One pass for every row, then blocks; the diagonal passes once more."""
        return PairFlops(self.pair).gram(n) + (self.row + self.diagonal) * n


def kernel_flops(kernel: AnyKernel, dim: int) -> PairFlops:
    """What evaluating a kernel costs: the inner product of a pair, or the pixels of two images."""
    total = PairFlops(0)
    for plain in plain_kernels(kernel):
        if isinstance(plain, ConvolutionalNetworkKernel):
            total += convolutional_flops(
                plain.image,
                plain.operations,
                plain.taps if isinstance(plain, ConvolutionalKernel) else 3,
                is_tangent=plain.network == "ntk",
                follows_all_pairs=not isinstance(plain, ConvolutionalKernel) or plain.readout == "average",
            )
        else:
            # An RBF's exponent comes whole from one product of rows with two columns more.
            total += PairFlops(2 * (dim + 2 if isinstance(plain, RbfKernel) else dim))
    return total


def convolutional_flops(
    image: tuple[int, int, int],
    operations: tuple[str, ...],
    taps: int,
    *,
    is_tangent: bool,
    follows_all_pairs: bool,
) -> PairFlops:
    """The recursion over pairs of pixels, entry by entry: sums over the taps of either axis, scale, bias, ReLU."""
    pixels = image[0] * image[1]
    pairs = pixels**2 if follows_all_pairs else pixels
    convolved = 2 * (taps - 1) + 1
    each = convolved + 1 + _PIXEL_RELU + (convolved + 2 if is_tangent else 0)
    flops = 2 * image[2] * pairs
    for operation in operations:
        if operation == "pool":
            # Means along the four dimensions of a pair, of which each halves what is left.
            flops += (2 if is_tangent else 1) * (pairs + pairs // 2 + pairs // 4 + pairs // 8)
            pairs //= 16
        else:
            flops += pairs * each
    return PairFlops(pair=flops, row=flops, diagonal=flops)


def eigendecomposition_path(n: int, size: int, targets: int, ridges: int) -> int:
    """Leave-one-out of every ridge from ``size`` eigenvectors of n entries, and the weights of the best."""
    s = targets + 1
    return (
        product(size, n, s)
        + product(n, size, ridges)
        + product(n, size, ridges * s)
        + product(n, size, targets)
    )


def feature_path(n: int, r: int, targets: int, ridges: int) -> int:
    """The same from r explicit features: their second moments, one r × r eigendecomposition, a second pass."""
    s = targets + 1
    moments = product(r, n, r) + product(r, n, s)
    path = product(r, r, s) + product(n, r, r) + product(n, r, ridges * s) + product(n, r, ridges)
    return moments + eigendecomposition(r) + path + product(r, r, targets)


def factorisation(n: int) -> int:
    """A Cholesky factor, n³/3, with what its blocks of columns add."""
    panel = min(n, PANEL)
    return n**3 // 3 + panel * n * (n - panel) // 2


def refit(n: int, targets: int) -> int:
    """A factor, the diagonal of the inverse (n³/3, with what its blocks of columns add) and the solves."""
    block = min(n, BLOCK_ROWS)
    inverse_diagonal = n**3 // 3 + n**2 * block - n * block**2 // 3
    return factorisation(n) + inverse_diagonal + 2 * triangular_solve(n, targets + 1)


def system_flops(
    pairs: PairFlops, n: int, test_samples: int, targets: int, ridges: int | None, rank: int | None = None
) -> int:
    """The exact solver with its predictions, however it solves.

    Args:
        pairs: of the kernel.
        ridges: length of a grid of the learner's own.
        rank: number of explicit features, None if infinite; what makes those of a row is in ``pairs``.
    """
    grid = DEFAULT_RIDGE_COUNT if ridges is None else ridges
    # The scale of the ridges is the mean of the diagonal, which is taken where the grid is made and where it is told.
    scale = 2 * n * pairs.diagonal
    if rank is not None and is_solved_by_features(n, rank):
        fit = feature_path(n, rank, targets, grid) + 2 * n * pairs.row + scale
        return fit + test_samples * pairs.row + product(test_samples, rank, targets)
    predictions = pairs.predictions(test_samples, n, targets)
    if is_solved_by_eigendecomposition(n, ridges):
        path = eigendecomposition(n) + eigendecomposition_path(n, n, targets, grid)
        return pairs.gram(n) + path + scale + predictions
    if ridges is not None and (n <= EIGENDECOMPOSITION_LIMIT or ridges == 1):
        return pairs.gram(n) + ridges * refit(n, targets) + predictions + n * pairs.diagonal
    bracketing = screening_flops(pairs, n, targets, ridges, 1)
    refits = pairs.gram(n) + int(REFITS * refit(n, targets))
    return bracketing + refits + predictions + n * pairs.diagonal


def chosen_system_flops(
    pairs: PairFlops,
    n: int,
    test_samples: int,
    targets: int,
    ridges: int | None,
    rank: int | None,
    candidates: int,
) -> int:
    """The exact solver on the best of so many kernels; where all samples chose it, its gram is decomposed already."""
    flops = system_flops(pairs, n, test_samples, targets, ridges, rank)
    if candidates == 1:
        return flops
    flops += screening_flops(pairs, n, targets, ridges, candidates)
    by_features = rank is not None and is_solved_by_features(n, rank)
    if n <= SUBSAMPLE and not by_features and is_solved_by_eigendecomposition(n, ridges):
        flops -= pairs.gram(n) + eigendecomposition(n)
    return flops


def screening_flops(pairs: PairFlops, n: int, targets: int, ridges: int | None, candidates: int) -> int:
    """So many kernels, each with its path of ridges on a subsample."""
    screened = min(n, SUBSAMPLE)
    grid = DEFAULT_RIDGE_COUNT if ridges is None else ridges
    path = eigendecomposition(screened) + eigendecomposition_path(screened, screened, targets, grid)
    return candidates * (pairs.gram(screened) + path)


def planned_kernel_ridge_flops(
    learner: KernelRidge, n: int, dim: int, test_samples: int, targets: int = 1
) -> int:
    """FLOPs of ``kernel_ridge`` with a typical number of refits or iterations.

    ``dim`` is that of what its feature map makes.
    """
    kernel = learner.kernel
    pairs, ridges = kernel_flops(kernel, dim), None if learner.ridges is None else len(learner.ridges)
    candidates = prod(len(values) for values in bandwidths_of(kernel).values())
    if learner.solver == "exact":
        rank = kernel_rank(kernel, dim)
        return chosen_system_flops(pairs, n, test_samples, targets, ridges, rank, candidates)
    flops = screening_flops(pairs, n, targets, ridges, candidates) if candidates > 1 else 0
    r = min(n, learner.centres)
    grid = DEFAULT_RIDGE_COUNT if ridges is None else ridges
    features = pairs.cross(n, r) + triangular_solve(r, n)
    flops += pairs.gram(r) + factorisation(r) + 2 * features + feature_path(n, r, targets, grid)
    flops += 2 * n * pairs.diagonal
    if learner.solver == "nystrom":
        return flops + triangular_solve(r, targets) + pairs.predictions(test_samples, r, targets)
    preconditioner = features + product(r, n, r) + eigendecomposition(r) + product(n, r, r)
    step = pairs.gram_products(n) + 2 * product(n, r, 1)
    flops += targets * (preconditioner + TYPICAL_ITERATIONS * step)
    return flops + pairs.predictions(test_samples, n, targets)


def planned_feature_machine_flops(
    learner: RecursiveFeatureMachine, n: int, dim: int, test_samples: int
) -> int:
    """FLOPs of ``recursive_feature_machine`` whose last round is the best.

    ``dim`` is that of what its feature map makes.
    """
    rounds, pairs = learner.rounds, len(learner.bandwidths) * len(learner.ridges)

    def held_out_of(samples: int) -> int:
        return min(samples - 2, max(2, round(learner.validation_fraction * samples)))

    def tried(samples: int) -> int:
        """All rounds of one pair, each with its held-out error; the first metric is the identity."""
        held_out = held_out_of(samples)
        trained = samples - held_out
        flops = 0
        for updates in range(rounds + 1):
            kernel = metric_flops(dim, has_metric=updates > 0)
            flops += _solved(kernel, trained, dim, has_metric=updates > 0)
            flops += kernel.predictions(held_out, trained)
            flops += _updated(kernel, trained, dim, has_metric=updates > 0) if updates < rounds else 0
        return flops

    flops = pairs * tried(min(n, FEATURE_MACHINE_SUBSAMPLE))
    if n > FEATURE_MACHINE_SUBSAMPLE:
        flops += min(FINALISTS, pairs) * tried(n)
    for updates in range(rounds + 1):
        kernel = metric_flops(dim, has_metric=updates > 0)
        flops += _solved(kernel, n, dim, has_metric=updates > 0)
        flops += _updated(kernel, n, dim, has_metric=updates > 0) if updates < rounds else 0
    return flops + metric_flops(dim, has_metric=True).predictions(test_samples, n)


def metric_flops(dim: int, *, has_metric: bool) -> PairFlops:
    """A Laplace kernel; under a metric every row of a block is multiplied by the metric's root."""
    return PairFlops(2 * dim, product(1, dim, dim) if has_metric else 0)


def _solved(kernel: PairFlops, n: int, dim: int, *, has_metric: bool) -> int:
    root = eigendecomposition(dim) + product(dim, dim, dim) if has_metric else 0
    return root + kernel.gram(n) + factorisation(n) + 2 * triangular_solve(n, 1)


def _updated(kernel: PairFlops, n: int, dim: int, *, has_metric: bool) -> int:
    """Gradients of what was fitted at its own samples, and the average of their outer products."""
    gradients = kernel.cross(n, n) + product(n, n, dim + 1)
    return gradients + (product(n, dim, dim) if has_metric else 0) + product(dim, n, dim)


def _blocks(n: int) -> int:
    return -(-n // BLOCK_ROWS)
