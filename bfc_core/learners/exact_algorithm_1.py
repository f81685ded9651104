"""Algorithm 1 step by step as arXiv:2001.04413 §4 writes it, one state machine a member, one batched program.

    ε₀ ← ε₀(start); all λ are 0, K = W = 0, R random
    while ε₀ ≥ ε:
        while objective on the data ≥ ε₀²/4:
            for each ℓ: where W_ℓ is not active and objective ≤ Thres△_ℓ: activate it, λ₆,ℓ ← ε₀²/(k̄_ℓ L κ)⁸
                        where λ₃,ℓ = 0 and objective ≤ Thres▽_ℓ: set λ₃, λ₄, λ₅ and K_ℓ ← InitialDistill(W_ℓ)
            one sample x: a gradient step on every active K_ℓ, W_ℓ; a little Gaussian noise on W_ℓ
        ε₀ ← ε₀/2, λ₆ ← λ₆/4

Deviations: the objective is looked at every ``check_every`` steps on ``checked_samples`` training samples, not
before each step on all; level 2 begins at once (its threshold would need α_1); a level is only activated when
the one below is distilled (the paper's constants imply it, free prefactors do not); inside a level K keeps at
most k_ℓ rows. The formulas are in :mod:`bfc_core.theory.algorithm_1`.

Letters: e members, p parameters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.checkpoint import CheckpointFolder
from bfc_core.evaluation import Problem
from bfc_core.flops.networks import NetworkFlops
from bfc_core.learners.exact_state import MemberState
from bfc_core.learners.network_predictor import NetworkPredictor
from bfc_core.learners.pack_samples import joined_samples
from bfc_core.learners.pack_watch import PackWatch
from bfc_core.learners.predictor import Fitted, Selection
from bfc_core.networks.batch_gradient import BatchGradient
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.seeding import generator_for
from bfc_core.specs import AlgorithmOne, AnyLearner, LabelledTarget, Outcome, RunSpec, hierarchy_of
from bfc_core.theory.algorithm_1 import ExactConstants
from bfc_core.theory.faint_levels import faint_levels
from bfc_core.training.distillation import initial_distill
from bfc_core.training.divergence import FAR_OFF, is_lost
from bfc_core.training.exact_regularizer import ExactRegularizer
from bfc_core.training.measuring import measurements, numbers_of
from bfc_core.training.members import BATCH_BLOCK, Members
from bfc_core.training.objective import Objective
from bfc_core.training.progress import Observer
from bfc_core.training.regularizer import tie_matrices

MEASUREMENTS_A_RUN = 40


def is_exact(learner: AnyLearner) -> bool:
    """Whether a learner is Algorithm 1 in exact mode."""
    return isinstance(learner, AlgorithmOne) and learner.mode == "exact"


class ExactPack:
    """Runs the members of one pack; arguments as for :class:`bfc_core.learners.hierarchical.HierarchicalPack`."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        problems: Sequence[Problem],
        observer: Observer,
        device: str,
        checkpoints: CheckpointFolder | None,
    ) -> None:
        learner = specs[0].learner
        if not isinstance(learner, AlgorithmOne) or learner.mode != "exact":
            raise TypeError(f"{learner.kind} is not Algorithm 1 in exact mode")
        self.learner, self.mode = learner, learner.constants
        self.specs, self.problems = specs, problems
        self.watch = PackWatch(observer, checkpoints)
        self.dtype = torch.float32 if learner.precision == "float32" else torch.float64
        self.network = DistilledDenseNet(
            hierarchy_of(specs[0].target), specs[0].dim, learner.width, learner.truncation
        )
        self.levels = tuple(self.network.levels)
        self._flops = NetworkFlops(hierarchy_of(specs[0].target), specs[0].dim, learner.width)
        target = specs[0].target
        self.is_margin = isinstance(target, LabelledTarget) and target.task == "classification"
        self.objective = Objective(
            "logistic" if self.is_margin else "squared", margin_slope=learner.margin_slope
        )
        self.constants = [ExactConstants(hierarchy_of(spec.target), spec.dim, self.mode) for spec in specs]
        self.states = [MemberState() for _ in specs]
        self.step = 0
        self.data, first_rows = joined_samples(specs, problems, device, self.dtype, is_margin=self.is_margin)
        self.members = Members(
            flat=torch.zeros(len(specs), self.network.parameter_count, dtype=self.dtype, device=device),
            lifts=self._lifts(device),
            alphas={
                level: torch.tensor(
                    [hierarchy_of(spec.target).alphas[level] for spec in specs],
                    dtype=self.dtype,
                    device=device,
                )
                for level in self.levels
            },
            movable=torch.zeros(len(specs), self.network.parameter_count, dtype=self.dtype, device=device),
            seeds=tuple(spec.seed for spec in specs),
            first_rows=first_rows,
            rows=tuple(spec.n for spec in specs),
        )
        self._checked = self._checked_rows()
        self._is_noisy = torch.zeros(self.network.parameter_count, dtype=self.dtype, device=device)
        for level in self.levels:
            self.network.weights(self._is_noisy[None], level).fill_(1.0)

    def fit(self) -> list[Fitted]:
        """Run every member to its accuracy or to the last step.

        Raises:
            PackInterrupted: the observer asked the pack to stop; a checkpoint was saved where there is a folder.
        """
        self._restore()
        if self.step == 0:
            for member, state in enumerate(self.states):
                self._activate(member, state, self.levels[0], epsilon=1.0)
            self._look()
        while self.step < self.mode.max_steps and any(self._is_running(state) for state in self.states):
            self._block(min(BATCH_BLOCK, self.mode.max_steps - self.step))
            self._set_aside_the_infinite()
            if self.step % self.mode.check_every == 0:
                self._look()
            if not self._attend():
                break
        return [self._fitted(member) for member in range(len(self.specs))]

    # ---- one sample a step -----------------------------------------------------------------------

    def _block(self, steps: int) -> None:
        block = self.step // BATCH_BLOCK
        batches = self.members.batches(block, 1)
        noise = self.mode.noise * torch.stack(
            [
                torch.randn(
                    BATCH_BLOCK,
                    self.network.parameter_count,
                    generator=generator_for(spec.seed, "saddle noise", block),
                    dtype=torch.float64,
                )
                for spec in self.specs
            ],
            1,
        ).to(self.members.flat)
        alphas, regularizer = self._open_alphas(), self._regularizer()
        moving = self.members.movable.clone()
        for member, state in enumerate(self.states):
            if not self._is_running(state):
                moving[member] = 0.0
        gradient = torch.zeros_like(self.members.flat)
        gradients = BatchGradient(
            self.network,
            self.members.flat,
            gradient,
            self.members.lifts,
            alphas,
            self.levels,
            frozenset(self.levels),
            rows=1,
        )
        for batch, shake in zip(self.data.batches(batches[:steps]), noise, strict=False):
            gradient.zero_()
            predicted = batch.predicted(gradients.forward(batch.x))
            slope = self.objective.row_slopes(predicted, batch.y)
            gradients.backward(slope)
            curvature = self.objective.row_curvatures(predicted, batch.y)
            step_size = self._step_size(gradient * moving, slope, curvature)
            regularizer.add_gradient(self.members.flat, gradient)
            move = shake * self._is_noisy - step_size * gradient
            self.members.flat.add_(move * moving)
        self.step += steps

    def _step_size(
        self, gradient: Float[Tensor, "e p"], slope: Float[Tensor, "e 1"], curvature: Float[Tensor, "e 1"]
    ) -> Float[Tensor, "e 1"] | float:
        """η, or less where a step of η would go past its sample: at most 1/(ℓ″ ‖∇F‖²), with ∇F = gradient/ℓ′.

        That is the bound of normalised least mean squares (J. Nagumo, A. Noda 1967): the steps that it shortens are
        those on the heavy tail that a plain step of η diverges on, all others are left as they are.
        """
        if self.mode.step_limit == "none":
            return self.mode.step_size
        reached = curvature * gradient.square().sum(1, keepdim=True)
        return (slope.square() / reached.clamp_min(torch.finfo(reached.dtype).tiny)).clamp_max(
            self.mode.step_size
        )

    def _set_aside_the_infinite(self) -> None:
        finite = self.members.flat.isfinite().all(1)
        for member in (~finite).nonzero().flatten().tolist():
            self.states[member].is_finite = False
            self.states[member].ended_at = self.step
            self.members.flat[member] = 0.0

    # ---- the state machine -----------------------------------------------------------------------

    def _look(self) -> None:
        """Take the objectives, and let every member halve ε₀, activate and distil as they allow."""
        objectives = self._objectives()
        due = self.step % max(self.mode.check_every, self.mode.max_steps // MEASUREMENTS_A_RUN) < (
            self.mode.check_every
        )
        for member, state in enumerate(self.states):
            if not self._is_running(state):
                continue
            objective = float(objectives[member])
            state.spend(self._flops.exact_look(self.mode.checked_samples))
            before = state.stage
            if state.epsilon is None:
                state.epsilon = self.mode.initial_accuracy or 2 * objective**0.5
                state.norms = {
                    level: self.constants[member].norm(level, state.epsilon) for level in state.active
                }
            while objective < state.epsilon**2 / 4 and state.epsilon >= self.mode.accuracy:
                state.epsilon /= 2
                state.norms = {level: norm / 4 for level, norm in state.norms.items()}
            if state.epsilon < self.mode.accuracy:
                state.ended_at = self.step
            else:
                self._open(member, state, objective)
            if due or state.stage != before or state.ended_at is not None:
                self._measure(member, state, objective)

    def _open(self, member: int, state: MemberState, objective: float) -> None:
        """Activations and distillations that this objective allows. Distilling changes it: one change a look."""
        constants = self.constants[member]
        assert state.epsilon is not None
        for level in self.levels:
            is_ready = level == self.levels[0] or level - 1 in state.distilled
            if level not in state.active and is_ready and objective <= constants.activation(level):
                self._activate(member, state, level, state.epsilon)
                return
            if (
                level in state.active
                and level not in state.distilled
                and objective <= constants.distillation(level)
            ):
                self._distil(member, state, level)
                return

    def _activate(self, member: int, state: MemberState, level: int, epsilon: float) -> None:
        state.active.append(level)
        state.norms[level] = self.constants[member].norm(level, epsilon)
        state.opened_at[f"level_{level}_active_at"] = self.step
        self.network.weights(self.members.movable, level)[member] = 1.0

    def _distil(self, member: int, state: MemberState, level: int) -> None:
        wide = self.network.weights(self.members.flat, level)[member]
        threshold = self.constants[member].rank_threshold
        distilled, rank = initial_distill(wide, level, self.network.levels[level], threshold)
        state.spend(self._flops.distillation(level))
        distilled[rank:] = 0.0
        self.network.distilled(self.members.flat, level)[member] = distilled
        self.network.distilled(self.members.movable, level)[member, :rank] = 1.0
        state.distilled.append(level)
        state.ranks[level] = rank
        state.opened_at[f"level_{level}_distilled_at"] = self.step

    def _is_running(self, state: MemberState) -> bool:
        return state.is_finite and state.ended_at is None

    def _objectives(self) -> Float[Tensor, " e"]:
        batch = self.data.batch(self._checked)
        output = self.network.forward(
            self.members.flat, self.members.lifts, self._open_alphas(), batch.x, self.levels
        ).output
        data = self.objective.value(batch.predicted(output), batch.y)
        return data + self._regularizer().value(self.members.flat)

    def _open_alphas(self) -> dict[int, Float[Tensor, " e"]]:
        """α_ℓ where a member has activated level ℓ, else 0: the level is not in its output."""
        return {
            level: alpha * torch.tensor([level in state.active for state in self.states]).to(alpha)
            for level, alpha in self.members.alphas.items()
        }

    def _regularizer(self) -> ExactRegularizer:
        ties, norms = {}, {}
        for level in self.levels:
            ties[level] = torch.stack(
                [
                    torch.stack(
                        list(
                            tie_matrices(
                                self.network, level, constants.ties(level, self.learner.tie_weights)
                            ).values()
                        )
                    ).sum(0)
                    * (level in state.distilled)
                    for constants, state in zip(self.constants, self.states, strict=True)
                ]
            ).to(self.members.flat)
            norms[level] = torch.tensor([state.norms.get(level, 0.0) for state in self.states]).to(
                self.members.flat
            )
        return ExactRegularizer(self.network, ties, norms, self.objective.regularizer_weight)

    # ---- data ------------------------------------------------------------------------------------

    def _checked_rows(self) -> Tensor:
        count = self.mode.checked_samples
        return torch.stack(
            [
                first + torch.arange(count) % rows
                for first, rows in zip(self.members.first_rows, self.members.rows, strict=True)
            ]
        ).to(self.members.flat.device)

    def _lifts(self, device: str) -> dict[int, Tensor]:
        drawn = [self.network.draw_lifts(generator_for(spec.seed, "init")) for spec in self.specs]
        return {
            level: torch.stack([lift[level] for lift in drawn]).to(device, self.dtype)
            for level in self.levels
        }

    # ---- surroundings ----------------------------------------------------------------------------

    def _measure(self, member: int, state: MemberState, objective: float) -> None:
        numbers = numbers_of(self._predictor(member), self.problems[member])
        assert state.epsilon is not None
        numbers |= {("objective", None): objective, ("epsilon_0", None): state.epsilon}
        numbers |= {("objective_lambda_6", level): norm for level, norm in state.norms.items()}
        self.watch.observer.measured(member, measurements(numbers.items(), self.step, state.stage))

    def _attend(self) -> bool:
        """Surroundings, as :class:`PackWatch`; false where nobody wants the pack any more."""
        was_asked = self.watch.attend(self.step, self.mode.max_steps, self._snapshot)
        return not was_asked or len(self.watch.cancelled) < len(self.specs)

    def _snapshot(self) -> dict[str, Any]:
        states = [vars(state) for state in self.states]
        return {
            "step": self.step,
            "flat": self.members.flat,
            "movable": self.members.movable,
            "states": states,
        }

    def _restore(self) -> None:
        checkpoints = self.watch.checkpoints
        saved: dict[str, Any] | None = checkpoints.load() if checkpoints is not None else None
        if saved is not None:
            self.step = int(saved["step"])
            self.members.flat.copy_(saved["flat"])
            self.members.movable.copy_(saved["movable"])
            self.states = [MemberState(**{"flops": None} | state) for state in saved["states"]]

    # ---- results ---------------------------------------------------------------------------------

    def _predictor(self, member: int) -> NetworkPredictor:
        state = self.states[member]
        return NetworkPredictor(
            self.network,
            self.members.flat[member : member + 1],
            {level: lift[member : member + 1] for level, lift in self.members.lifts.items()},
            {level: alpha[member : member + 1] for level, alpha in self.members.alphas.items()},
            tuple(state.active),
            tuple(state.distilled),
            self.is_margin,
        )

    def _fitted(self, member: int) -> Fitted:
        state = self.states[member]
        steps = self.step if state.ended_at is None else state.ended_at
        state.spend(steps * self._flops.exact_step())
        if member in self.watch.cancelled:
            return Fitted(Outcome.CANCELLED, None, message="cancelled on request")
        predictor = self._predictor(member)
        if not state.is_finite or is_lost(self.problems[member], predictor, self.objective):
            what = "became infinite" if not state.is_finite else FAR_OFF
            message = f"the parameters {what}; {self._advice()}"
            return Fitted(Outcome.DIVERGED, None, steps, state.flops, message=message)
        assert state.epsilon is not None
        selection: Selection = {"epsilon_0": state.epsilon, **state.opened_at}
        selection |= {f"rank_level_{level}": rank for level, rank in state.ranks.items()}
        warnings: tuple[str, ...] = () if state.ended_at is not None else (self._unfinished(state),)
        if state.ended_at == 0:
            warnings = (
                f"nothing was trained: the objective was below accuracy {self.mode.accuracy:g} at once",
            )
        warnings += tuple(map(str, faint_levels(self.specs[member])))
        return Fitted(Outcome.SUCCEEDED, predictor, steps, state.flops, selection, warnings)

    def _advice(self) -> str:
        """What keeps a training from diverging, the gentlest first."""
        limit = "exact.step_limit 'sample', or " if self.mode.step_limit == "none" else ""
        return (
            f"try {limit}a smaller exact.step_size than {self.mode.step_size:g}, a smaller exact.noise than "
            f"{self.mode.noise:g}, or a smaller truncation than {self.learner.truncation}"
        )

    def _unfinished(self, state: MemberState) -> str:
        waiting = [level for level in self.levels if level not in state.active]
        what = f"; level {waiting[0]} was never activated" if waiting else ""
        return (
            f"stopped after max_steps = {self.mode.max_steps} at ε₀ = {state.epsilon:.3g}, above the accuracy "
            f"{self.mode.accuracy:g}{what}"
        )
