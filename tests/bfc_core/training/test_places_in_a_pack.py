"""What a step makes of a member, to the last bit, is the same beside any others and at any place."""

from typing import Literal

import pytest
import torch

from bfc_core.networks.batch_gradient import BatchGradient
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_rows
from bfc_core.seeding import generator_for
from bfc_core.specs import Hierarchy
from bfc_core.training import members as module
from bfc_core.training.adam import Adam, AdamSteps
from bfc_core.training.members import TrainingData
from bfc_core.training.objective import Objective
from bfc_core.training.regularizer import Regularizer

MEMBERS, ROWS = 5, 60

CONNECTIONS: list[dict[int, tuple[int, ...]]] = [
    {2: (0,), 3: (2, 1)},
    {2: (1,), 3: (2, 0)},
    {2: (1, 0), 3: (2,)},
    {2: (0,), 3: (0,), 4: (3, 2, 1)},
    {2: (1,), 3: (2, 1), 4: (1,)},
    {2: (0, 1), 3: (2, 0), 4: (3, 0, 1)},
]


class Pack:
    """Members of one shape, of which some are stepped together; odd sizes, so that arrays end within a vector."""

    def __init__(
        self, connections: dict[int, tuple[int, ...]], dtype: torch.dtype, batch: int, objective: Objective
    ) -> None:
        generator = generator_for(batch, "init")
        self.levels, self.objective = tuple(connections), objective
        widths = {level: 2 + level % 2 for level in connections}
        told = Hierarchy(widths, dict.fromkeys(connections, 1.0), connections, 1.0)
        self.network = DistilledDenseNet(told, dim=5, width=7, truncation=1.0)
        drawn = [self.network.draw_lifts(generator) for _ in range(MEMBERS)]
        self.lifts = {level: torch.stack([lift[level] for lift in drawn]).to(dtype) for level in self.levels}
        self.flat = torch.stack([self.network.draw_weights(generator, 0.3) for _ in range(MEMBERS)]).to(dtype)
        self.alphas = {
            level: torch.rand(MEMBERS, generator=generator).to(dtype) + 0.5 for level in self.levels
        }
        x = torch.randn(ROWS, 5, generator=generator, dtype=dtype)
        y, offset = (torch.randn(ROWS, generator=generator, dtype=dtype) for _ in range(2))
        is_margin = objective.loss == "logistic"
        self.data = TrainingData(x, y.sign(), offset if is_margin else None)
        self.rows = torch.randint(ROWS, (4, MEMBERS, batch), generator=generator)

    def stepped(
        self,
        members: list[int],
        trainable: tuple[int, ...],
        distilled: tuple[int, ...],
        tied: tuple[int, ...],
    ) -> torch.Tensor:
        """The parameters of these members after four steps."""
        network = self.network.with_tied(tied)
        flat = member_rows(self.flat[members])
        alphas = {level: alpha[members] for level, alpha in self.alphas.items()}
        gradient = member_rows(torch.zeros_like(flat))
        moves = AdamSteps(Adam.fresh(flat), flat, gradient, clip_norm=1.0)
        lifts = {level: lift[members] for level, lift in self.lifts.items()}
        gradients = BatchGradient(
            network, flat, gradient, lifts, alphas, self.levels, frozenset(trainable), self.rows.shape[2]
        )
        regularizer = Regularizer(network, (1.0, 0.5, 0.25), 1e-3, alphas).gradient_into(
            gradient, flat, trainable, distilled
        )
        for batch in self.data.batches(self.rows[:, members]):
            regularizer.write()
            predicted = batch.predicted(gradients.forward(batch.x))
            gradients.backward(self.objective.row_slopes(predicted, batch.y))
            moves.take(0.01)
        return flat


@pytest.mark.parametrize("batch", [1, 16, 17, 33])
@pytest.mark.parametrize("loss", ["huber", "logistic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("connections", CONNECTIONS, ids=str)
def test_a_member_has_the_same_bits_beside_any_others(
    connections: dict[int, tuple[int, ...]],
    dtype: torch.dtype,
    loss: Literal["huber", "logistic"],
    batch: int,
) -> None:
    pack = Pack(connections, dtype, batch, Objective(loss, delta=0.3, margin_slope=5.0))
    levels = pack.levels
    for trainable, distilled, tied in (
        (levels, levels, ()),
        (levels[1:], levels[1:], ()),
        (levels[-1:], levels[:1], levels[:1]),
        (levels, levels, levels),
        (levels[:1], (), ()),
    ):
        together = pack.stepped([0, 1, 2, 3, 4], trainable, distilled, tied)
        assert not torch.equal(together, pack.flat)
        for members in ([2], [4, 1]):
            assert torch.equal(pack.stepped(members, trainable, distilled, tied), together[members])


@pytest.mark.parametrize("rows", [256, 17, 1])
@pytest.mark.parametrize("loss", ["huber", "squared", "logistic"])
def test_a_data_term_is_the_same_beside_any_others(
    loss: Literal["huber", "squared", "logistic"], rows: int
) -> None:
    objective = Objective(loss, delta=0.3, margin_slope=5.0)
    generator = generator_for(rows, "test")
    predicted, y = (torch.randn(17, rows, generator=generator) for _ in range(2))
    for of in (objective.value, objective.row_slopes, objective.row_curvatures):
        together = of(predicted, y.sign())
        for member in range(17):
            assert torch.equal(of(predicted[member, None], y[member, None].sign())[0], together[member])


@pytest.mark.parametrize("fetched", [1, 700, 2**20], ids=["a step at a time", "three steps", "all"])
@pytest.mark.parametrize("has_offset", [False, True])
def test_batches_of_several_steps_are_those_of_each(
    monkeypatch: pytest.MonkeyPatch, fetched: int, *, has_offset: bool
) -> None:
    monkeypatch.setattr(module, "FETCHED_BYTES", fetched)
    generator = generator_for(3, "test")
    x, y = torch.randn(40, 3, generator=generator), torch.randn(40, generator=generator)
    data = TrainingData(x, y, y.square() if has_offset else None)
    rows = torch.randint(40, (7, 2, 9), generator=generator)
    count = 0
    for batch, step_rows in zip(data.batches(rows), rows, strict=True):
        single = data.batch(step_rows)
        assert torch.equal(batch.x, x[step_rows])
        assert torch.equal(batch.y, y[step_rows])
        assert torch.equal(batch.predicted(batch.y), single.predicted(single.y))
        count += 1
    assert count == 7
