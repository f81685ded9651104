"""Refinements side by side: each has the very bits that it has alone, whoever is beside it."""

from dataclasses import replace

import pytest
import torch

from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.seeding import generator_for
from bfc_core.specs import HierarchicalQuadratic, hierarchy_of
from bfc_core.training import refinement_answers, restarts
from bfc_core.training.lockstep import Lockstep, alone
from bfc_core.training.objective import Loss, Objective
from bfc_core.training.refinement import Asking, Equations, Refinement, Step, Value
from bfc_core.training.refinement_answers import answer_equations, answer_steps, answer_values
from bfc_core.training.restarts import restarted

SIZES = (300, 512, 100, 1000, 512, 2000, 700)
"""Rows of the members: from less than a chunk to many, some of them equal."""


def member(
    seed: int,
    rows: int,
    dim: int = 5,
    widths: tuple[int, ...] = (2, 1),
    loss: Loss = "huber",
    trainable: tuple[int, ...] | None = None,
) -> tuple[Refinement, torch.Tensor]:
    """A refinement of noisy labels, and where it starts."""
    target = HierarchicalQuadratic(
        kind="hierarchical_quadratic", widths=widths, alphas=(1, 0.3, 0.2)[: len(widths)]
    )
    hierarchy = hierarchy_of(target)
    levels = hierarchy.levels
    network = DistilledDenseNet(hierarchy, dim, width=8, truncation=None).with_tied(levels)
    generator = generator_for(seed, "init")
    lifts, flat = network.draw_lifts(generator), network.draw_weights(generator, 0.5)
    y = torch.randn(rows, generator=generator, dtype=torch.float64)
    refinement = Refinement(
        network,
        lifts,
        {level: torch.tensor(alpha, dtype=torch.float64) for level, alpha in hierarchy.alphas.items()},
        torch.ones_like(flat),
        torch.randn(rows, dim, generator=generator, dtype=torch.float64),
        y.sign() if loss == "logistic" else y,
        torch.randn(rows, generator=generator, dtype=torch.float64) if loss == "logistic" else None,
        Objective(loss, delta=0.3, margin_slope=2.0),
        levels,
        trainable or levels,
    )
    return refinement, flat


@pytest.mark.parametrize("loss", ["huber", "squared", "logistic"])
@pytest.mark.parametrize("widths", [(2, 1), (3, 2), (3, 2, 2)], ids=str)
@pytest.mark.parametrize("dim", [5, 6, 10])
def test_every_answer_has_the_bits_that_it_has_alone(dim: int, widths: tuple[int, ...], loss: Loss) -> None:
    members = [member(seed, rows, dim, widths, loss) for seed, rows in enumerate(SIZES)]
    values, equations = [Value(*own) for own in members], [Equations(*own) for own in members]
    answer_values(values)
    answer_equations(equations)
    steps = [Step(of, flat, found.answer, 1e-2) for (of, flat), found in zip(members, equations, strict=True)]
    answer_steps(steps)
    for number, (of, flat) in enumerate(members):
        value, system = Value(of, flat), Equations(of, flat)
        answer_values([value])
        answer_equations([system])
        step = Step(of, flat, system.answer, 1e-2)
        answer_steps([step])
        assert value.answer == values[number].answer
        assert torch.equal(system.answer.normal, equations[number].answer.normal)
        assert torch.equal(system.answer.gradient, equations[number].answer.gradient)
        together = steps[number].answer
        assert step.answer is not None
        assert together is not None
        assert torch.equal(step.answer.flat, together.flat)
        assert step.answer.promised == together.promised


@pytest.mark.parametrize("loss", ["huber", "squared", "logistic"])
@pytest.mark.parametrize("trainable", [(2, 3), (3,)])
def test_the_equations_are_those_of_autograd(loss: Loss, trainable: tuple[int, ...]) -> None:
    of, flat = member(3, 300, loss=loss, trainable=trainable)
    question = Equations(of, flat)
    answer_equations([question])
    frozen = (
        {level: lift[None] for level, lift in of.lifts.items()},
        {level: alpha[None] for level, alpha in of.alphas.items()},
    )

    def predicted(row: torch.Tensor) -> torch.Tensor:
        output = of.network.forward(row[None], *frozen, of.x[None], of.active).output[0]
        return output if of.offset is None else output + of.offset

    leaf = flat.clone().requires_grad_()
    of.objective.value(predicted(leaf), of.y).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(question.answer.gradient, leaf.grad[of.places])
    jacobian = torch.autograd.functional.jacobian(predicted, flat)[:, of.places]
    curvature = of.objective.row_curvatures(predicted(flat), of.y) / len(of.y)
    torch.testing.assert_close(question.answer.normal, jacobian.mT @ (jacobian * curvature[:, None]))
    diagonal = question.answer.normal.diagonal()
    assert question.answer.size == pytest.approx(float((question.answer.gradient.square() / diagonal).sum()))


def test_a_block_of_few_bytes_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for size in (refinement_answers.BLOCK_BYTES, 0):
        monkeypatch.setattr(refinement_answers, "BLOCK_BYTES", size)
        asked.append([Equations(*member(seed, rows)) for seed, rows in enumerate(SIZES)])
        answer_equations(asked[-1])
    for large, small in zip(*asked, strict=True):
        assert torch.equal(large.answer.normal, small.answer.normal)
        assert torch.equal(large.answer.gradient, small.answer.gradient)


def test_descents_side_by_side_end_where_they_end_alone() -> None:
    """They take different numbers of steps, and cost what they cost alone."""
    members = [member(seed, rows) for seed, rows in enumerate(SIZES)]
    together = Lockstep([of.descent(flat, 30) for of, flat in members])
    together.run()
    costs = set()
    for (of, flat), found, flops in zip(members, together.results, together.flops, strict=True):
        single = Lockstep([of.descent(flat, 30)])
        single.run()
        assert found is not None
        assert torch.equal(found, alone(of.descent(flat, 30)))
        assert single.flops == [flops]
        costs.add(flops / len(of.x))
    assert len(costs) > 3


@pytest.mark.parametrize("together", [1, 3, 20])
def test_arms_side_by_side_end_where_they_end_alone(together: int) -> None:
    """They move other levels, or have fewer of them; of what is looked at together, some wait for others to end."""
    members = [
        member(seed, rows, widths=(3, 2, 2), trainable=levels)
        for rows in (300, 700)
        for seed, levels in enumerate([(2, 3, 4), (4,), (3, 4), (2,)])
    ]
    members += [(replace(of, active=(2,)), flat) for of, flat in members if of.trainable == (2,)]
    lockstep = Lockstep([of.descent(flat, 30) for of, flat in members], together)
    lockstep.run()
    for (of, flat), found, flops in zip(members, lockstep.results, lockstep.flops, strict=True):
        single = Lockstep([of.descent(flat, 30)])
        single.run()
        assert found is not None
        assert torch.equal(found, alone(of.descent(flat, 30)))
        assert not torch.equal(found, flat)
        assert single.flops == [flops]


def test_no_more_are_begun_than_are_run_together() -> None:
    begun, most = 0, 0

    def counted(seed: int, rows: int) -> Asking[torch.Tensor]:
        nonlocal begun, most
        begun += 1
        most = max(most, begun)
        of, flat = member(seed, rows)
        found = yield from of.descent(flat, 10)
        begun -= 1
        return found

    lockstep = Lockstep([counted(seed, rows) for seed, rows in enumerate(SIZES)], together=3)
    lockstep.run()
    assert most == 3
    assert all(found is not None for found in lockstep.results)


def test_restarts_side_by_side_end_as_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for wave in (restarts.WAVE, 1):
        monkeypatch.setattr(restarts, "WAVE", wave)
        found = []
        for seed, rows in enumerate(SIZES):
            of, flat = member(seed, rows)
            refined = alone(of.descent(flat, 20))
            found.append(alone(restarted(of, flat, refined, 20, 12, seed)))
        ends.append(found)
    kept = set()
    for (wide, *numbers), (narrow, *others) in zip(*ends, strict=True):
        assert torch.equal(wide, narrow)
        assert numbers == others
        kept.add(numbers[1])
    assert len(kept) > 1, "some restarts are kept, some are not"


def test_who_is_stopped_has_no_result() -> None:
    rounds = iter(range(3))
    lockstep = Lockstep([of.descent(flat, 30) for of, flat in (member(0, 300), member(1, 300))])
    lockstep.run(lambda: next(rounds) < 2)
    assert lockstep.results == [None, None]
    assert all(lockstep.flops)


def test_a_matrix_that_is_not_positive_definite_is_answered_by_none() -> None:
    of, flat = member(0, 300)
    system = Equations(of, flat)
    answer_equations([system])
    broken = replace(system.answer, normal=-system.answer.normal)
    steps = [Step(of, flat, broken, 1e-2), Step(of, flat, system.answer, 1e-2)]
    answer_steps(steps)
    assert steps[0].answer is None
    assert steps[1].answer is not None
