"""The network's closed-form gradients against autograd, and the target as a member of its function class."""

import pytest
import torch

from bfc_core.networks.batch_gradient import BatchGradient
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.truncation import truncated_square, truncated_square_derivative
from bfc_core.seeding import generator_for
from bfc_core.specs import HierarchicalQuadratic, WorkedExample1, hierarchy_of
from bfc_core.training.objective import Loss, Objective
from bfc_core.training.regularizer import Regularizer, tie_matrices

THREE_LEVELS = HierarchicalQuadratic(
    kind="hierarchical_quadratic",
    widths=(3, 2, 2),
    alphas=(1.0, 0.4, 0.2),
    connections={2: (1,), 3: (2, 0), 4: (3, 1, 0)},
)


def network_and_members(width: int, truncation: float | None, members: int = 2):
    hierarchy = hierarchy_of(THREE_LEVELS)
    network = DistilledDenseNet(hierarchy, dim=5, width=width, truncation=truncation)
    flats, lifts = [], []
    for seed in range(members):
        generator = generator_for(seed, "init")
        lifts.append(network.draw_lifts(generator))
        flats.append(network.draw_weights(generator, 0.4))
    stacked = {level: torch.stack([lift[level] for lift in lifts]) for level in network.levels}
    alphas = {level: torch.full((members,), alpha).double() for level, alpha in hierarchy.alphas.items()}
    return network, torch.stack(flats), stacked, alphas


@pytest.mark.parametrize("width", [2, 11, 40], ids=["W applied directly", "both", "through the form M"])
@pytest.mark.parametrize("truncation", [None, 0.5])
@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("tied", [(), (2, 3), (2, 3, 4)], ids=["free", "lower tied", "all tied"])
def test_gradient_agrees_with_autograd(
    width: int, truncation: float | None, loss: Loss, tied: tuple[int, ...]
) -> None:
    network, flat, lifts, alphas = network_and_members(width, truncation)
    network, objective = network.with_tied(tied), Objective(loss, delta=0.3)
    levels = tuple(network.levels)
    x = torch.randn(2, 16, 5, generator=generator_for(7, "inputs"), dtype=torch.float64)
    y = torch.randn(2, 16, generator=generator_for(7, "noise"), dtype=torch.float64)
    regularizer = Regularizer(network, (1.0, 0.3, 0.1), 1e-2, alphas)

    leaf = flat.clone().requires_grad_()
    output = network.forward(leaf, lifts, alphas, x, levels).output
    (objective.value(output, y) + regularizer.value(leaf, levels, levels)).sum().backward()

    gradient = torch.full_like(flat, torch.nan)
    regularizer.gradient_into(gradient, flat, levels, levels).write()
    batch = BatchGradient(network, flat, gradient, lifts, alphas, levels, frozenset(levels), rows=16)
    batch.forward(x * 3)  # what one batch leaves behind is nothing to the next
    batch.backward(objective.row_slopes(batch.forward(x), y))
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("trainable", "distilled", "tied"),
    [
        ((3,), (), ()),
        ((3,), (3,), ()),
        ((2, 4), (2, 3, 4), ()),
        ((2, 3, 4), (2, 3), (2,)),
        ((4,), (2, 3), (2, 3)),
    ],
)
@pytest.mark.parametrize("width", [2, 40], ids=["by rows", "by forms"])
def test_the_regularizers_gradient_is_written_over_whatever_was_there(
    trainable: tuple[int, ...], distilled: tuple[int, ...], tied: tuple[int, ...], width: int
) -> None:
    network, flat, _, alphas = network_and_members(width, None)
    network = network.with_tied(tied)
    regularizer = Regularizer(network, (1.0, 0.3, 0.1), 1e-2, alphas, weight=3.0)
    leaf = flat.clone().requires_grad_()
    regularizer.value(leaf, (2, 3, 4), distilled).sum().backward()
    moves = torch.zeros_like(flat)
    for level in trainable:
        network.weights(moves, level).fill_(1.0)
        if level in distilled:
            network.distilled(moves, level).fill_(1.0)
    gradient = torch.full_like(flat, torch.nan)
    writing = regularizer.gradient_into(gradient, flat, trainable, distilled)
    for _ in range(2):
        writing.write()
        torch.testing.assert_close(gradient, leaf.grad * moves, rtol=1e-12, atol=1e-13)


def test_the_ties_carry_their_prefactors_to_the_last_digit() -> None:
    network, *_ = network_and_members(4, None)
    ties = tie_matrices(network, 3, (1.1, 0.3, 0.1))
    assert {matrix.dtype for matrix in ties.values()} == {torch.float64}
    assert ties[4].unique().tolist() == [0.0, 0.3]
    assert ties[3].unique().tolist() == [0.0, 1.1 / 2]
    assert ties[5].unique().tolist() == [0.1]


def test_a_frozen_level_gets_no_gradient_and_the_free_one_its_own() -> None:
    network, flat, lifts, alphas = network_and_members(4, None)
    x = torch.randn(2, 16, 5, generator=generator_for(7, "inputs"), dtype=torch.float64)
    only_upper, everything = torch.zeros_like(flat), torch.zeros_like(flat)
    for trainable, gradient in ({3}, only_upper), ({2, 3}, everything):
        batch = BatchGradient(network, flat, gradient, lifts, alphas, (2, 3), frozenset(trainable), rows=16)
        batch.backward(Objective("squared").row_slopes(batch.forward(x), x.new_zeros(2, 16)))
    assert network.weights(only_upper, 2).abs().max() == 0 == network.distilled(only_upper, 2).abs().max()
    torch.testing.assert_close(network.weights(only_upper, 3), network.weights(everything, 3))
    assert network.distilled(everything, 2).abs().max() > 0


def test_a_tied_level_is_the_wide_level_whose_form_is_that_of_k() -> None:
    network, flat, lifts, alphas = network_and_members(4, None)
    x = torch.randn(2, 16, 5, generator=generator_for(7, "inputs"), dtype=torch.float64)
    for level in network.levels:
        wide, narrow = network.weights(flat, level), network.distilled(flat, level)
        wide.zero_()
        wide[:, : narrow.shape[1]] = narrow
    levels = tuple(network.levels)
    free = network.forward(flat, lifts, alphas, x, levels).output
    torch.testing.assert_close(network.with_tied(levels).forward(flat, lifts, alphas, x, levels).output, free)
    assert network.tied == frozenset()


def test_truncation_is_the_square_inside_and_constant_outside() -> None:
    z = torch.linspace(-5, 5, 4000, dtype=torch.float64, requires_grad=True)
    value = truncated_square(z, 1.5)
    inside, outside = z.detach().abs() <= 1.5, z.detach().abs() >= 3.0
    torch.testing.assert_close(value[inside], z[inside].square())
    assert value[outside].max() == value[outside].min()
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(truncated_square_derivative(z.detach(), 1.5), slope, rtol=1e-9, atol=1e-9)


def test_a_level_that_reads_the_input_itself_is_a_plain_quadratic() -> None:
    hierarchy = hierarchy_of(WorkedExample1(kind="worked_example_1"))
    network = DistilledDenseNet(hierarchy, dim=4, width=3, truncation=None)
    flat = network.draw_weights(generator_for(1, "init"), 1.0)[None]
    x = torch.randn(1, 9, 4, generator=generator_for(1, "inputs"), dtype=torch.float64)
    alphas = {level: torch.ones(1, dtype=torch.float64) for level in network.levels}
    output = network.forward(flat, {}, alphas, x, (2,)).output
    expected = (x[0] @ network.weights(flat, 2)[0].mT).square().sum(1)
    torch.testing.assert_close(output[0], expected)


def test_the_parts_of_the_regularizer_add_up() -> None:
    network, flat, _, alphas = network_and_members(4, None)
    levels = tuple(network.levels)
    regularizer = Regularizer(network, (1.0, 0.3, 0.1), 1e-2, alphas)
    parts = regularizer.parts(flat, levels, levels)
    assert set(parts) == {(level, number) for level in levels for number in (3, 4, 5, 6)}
    torch.testing.assert_close(
        torch.stack(list(parts.values())).sum(0), regularizer.value(flat, levels, levels)
    )
