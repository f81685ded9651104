"""Values and derivatives of a tied network against the readable forward pass and autograd through it."""

import pytest
import torch

from bfc_core.networks.tied_pass import TiedPass
from bfc_core.seeding import generator_for
from tests.bfc_core.networks.test_distilled_densenet import network_and_members


@pytest.mark.parametrize("active", [(2, 3, 4), (2, 3), (2,)])
def test_values_agree_with_the_networks(active: tuple[int, ...]) -> None:
    network, flat, lifts, alphas = network_and_members(4, None, members=3)
    x = torch.randn(3, 9, 5, generator=generator_for(7, "inputs"), dtype=torch.float64)
    expected = network.with_tied(active).forward(flat, lifts, alphas, x, active).output
    weights = {level: network.distilled(flat, level) for level in active}
    mean = network.hierarchy.level_one_mean
    passed = TiedPass(network.levels, weights, lifts, alphas, mean, x.mT.contiguous())
    torch.testing.assert_close(passed.output, expected)


@pytest.mark.parametrize("trainable", [(2, 3, 4), (3, 4), (4,), (2, 4)])
def test_the_jacobian_agrees_with_autograd(trainable: tuple[int, ...]) -> None:
    network, flat, lifts, alphas = network_and_members(4, None, members=2)
    levels = tuple(network.levels)
    tied = network.with_tied(levels)
    x = torch.randn(2, 9, 5, generator=generator_for(7, "inputs"), dtype=torch.float64)
    weights = {level: network.distilled(flat, level) for level in levels}
    passed = TiedPass(
        network.levels, weights, lifts, alphas, network.hierarchy.level_one_mean, x.mT.contiguous()
    )
    jacobian = passed.jacobian(passed.reaches(trainable), trainable)
    for member in range(2):
        own = slice(member, member + 1)

        def outputs(row: torch.Tensor, own: slice = own) -> torch.Tensor:
            frozen = (
                {level: lift[own] for level, lift in lifts.items()},
                {level: alpha[own] for level, alpha in alphas.items()},
            )
            return tied.forward(row[None], *frozen, x[own], levels).output[0]

        expected = torch.autograd.functional.jacobian(outputs, flat[member])[:, tied.places(trainable)]
        torch.testing.assert_close(jacobian[member].mT, expected)
