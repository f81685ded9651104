"""Algorithm 1, joint, layerwise and the matched-compute control, trained as one batched program.

Every learner is a list of stages (:mod:`bfc_core.training.schedule`). Two runs of a pack that agree in
target, data, seed and in all stages so far have the same *history*, and a history is trained once; runs
part where their stages differ. So a control starts from the very checkpoint of the arm that it controls,
and the common beginning is paid for once.

Letters: e members (distinct histories), n rows, p parameters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bfc_core.checkpoint import Checkpoints
from bfc_core.evaluation import Problem
from bfc_core.flops.networks import NetworkFlops
from bfc_core.learners.entering_networks import EnteringNetworks
from bfc_core.learners.histories import History, SharedBeginnings
from bfc_core.learners.network_predictor import NetworkPredictor
from bfc_core.learners.pack_checkpoint import checkpoint_of, finished_histories, is_of, take_spent
from bfc_core.learners.pack_samples import joined_samples
from bfc_core.learners.pack_watch import PackWatch
from bfc_core.learners.predictor import Fitted, Selection
from bfc_core.network_cost import fastest_members, members_within
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.networks.member_arrays import member_rows
from bfc_core.specs import (
    HierarchicalLearner,
    Hierarchy,
    LabelledTarget,
    Outcome,
    Recipe,
    RunSpec,
    hierarchy_of,
)
from bfc_core.theory.faint_levels import faint_levels
from bfc_core.training.divergence import FAR_OFF, is_lost
from bfc_core.training.loop import VALIDATION_ROWS, StageState, train_stage
from bfc_core.training.measuring import (
    Numbers,
    cosine_numbers,
    improvement_numbers,
    measurements,
    numbers_of,
    objective_numbers,
)
from bfc_core.training.members import BATCH_BLOCK, Members
from bfc_core.training.objective import Objective
from bfc_core.training.pack_refinement import RefinedMember, Task, refine_members
from bfc_core.training.progress import Observer
from bfc_core.training.refinement import parameters_of
from bfc_core.training.regularizer import Regularizer
from bfc_core.training.schedule import Stage, can_be_refined, stages_of

MEASUREMENTS_A_STAGE = 8


class HierarchicalPack:
    """Trains the runs of one pack. Runs must share network shape, recipe, dim and budget.

    Args:
        specs: runs whose learners are all :class:`Recipe` learners with equal shapes.
        problems: the target and samples of every run, in the same order.
        observer: told of progress; asked for cancellations.
        device: where to train.
        checkpoints: where to save and resume, or None.
        hierarchies: what each run's learner is told of its target; by default the truth.
        cuda_graphs: whether a GPU replays one recorded step instead of being told every operation of every step.
        together: members that are stepped together; by default as many as are fastest on the device.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        problems: Sequence[Problem],
        observer: Observer,
        device: str,
        checkpoints: Checkpoints | None,
        hierarchies: Sequence[Hierarchy] | None = None,
        *,
        cuda_graphs: bool = False,
        together: int | None = None,
    ) -> None:
        first = specs[0].learner
        if not isinstance(first, Recipe):
            raise TypeError(f"{first.kind} is not a hierarchical learner")
        self.recipe = first
        self.specs, self.problems = specs, problems
        self.watch = PackWatch(observer, checkpoints)
        self.device, self.cuda_graphs = device, cuda_graphs
        self.hierarchies = hierarchies or [hierarchy_of(spec.target) for spec in specs]
        self.dtype = torch.float32 if first.precision == "float32" else torch.float64
        self.network = DistilledDenseNet(self.hierarchies[0], specs[0].dim, first.width, first.truncation)
        target = specs[0].target
        task = target.task if isinstance(target, LabelledTarget) else "regression"
        self.is_margin = task == "classification"
        self.objective = Objective.of(first, task)
        self.stages = [
            stages_of(_hierarchical(spec), hierarchy)
            for spec, hierarchy in zip(specs, self.hierarchies, strict=True)
        ]
        self.depth = max(len(stages) for stages in self.stages)
        self.beginnings = SharedBeginnings(specs, self.hierarchies, self.stages)
        self._together = together or self._members_together()
        self.total = sum(self.beginnings.steps_at(depth, self._together) for depth in range(self.depth))
        self.done = 0
        self.networks = EnteringNetworks(self.network, first, device, self.dtype)
        self._lifts = [self.networks.drawn(spec)[0] for spec in specs]
        self._data, self._first_rows = joined_samples(
            specs, problems, device, self.dtype, is_margin=self.is_margin
        )

    def fit(self) -> list[Fitted]:
        """Train every run through its stages.

        Raises:
            PackInterrupted: the observer asked the pack to stop; a checkpoint was saved where there is a folder.
        """
        start, histories, resumed = self._restored()
        self.watch.observer.progressed(self.done, self.total)
        for depth in range(start[0], self.depth):
            for number, runs in enumerate(self.beginnings.groups(depth, self._together)):
                if (depth, number) < start:
                    continue
                state = resumed if (depth, number) == start else None
                self._train(depth, number, runs, histories, state)
            if len(self.watch.cancelled) == len(self.specs):
                break
        else:
            self.watch.observer.progressed(self.total, self.total)
        return [self._fitted(run, histories) for run in range(len(self.specs))]

    # ---- histories -------------------------------------------------------------------------------

    def _members_together(self) -> int:
        """On a CPU as many as the cache holds, on a GPU as many as half of its free memory holds."""
        if torch.device(self.device).type != "cuda":
            return fastest_members(self.specs[0], self.recipe)
        free, _ = torch.cuda.mem_get_info(self.device)
        return members_within(self.specs[0], self.recipe, free // 2)

    def _entering(self, depth: int, run: int, histories: dict[str, History]) -> History:
        """The network that a run brings into a stage."""
        before = histories.get(self.beginnings.key(run, depth)) if depth else None
        return self.networks.entering(run, self.specs[run], self.stages[run][depth], before)

    # ---- training --------------------------------------------------------------------------------

    def _train(
        self,
        depth: int,
        number: int,
        runs: list[int],
        histories: dict[str, History],
        resumed: dict[str, Any] | None,
    ) -> None:
        entering = [self._entering(depth, run, histories) for run in runs]
        members = self._members(runs, entering)
        # Of the group: stages that are refined together agree in their steps, all others in everything.
        stage = self.stages[runs[0]][depth]
        has_plateau = self.recipe.activation == "plateau" and depth + 1 < len(self.stages[runs[0]])
        if resumed is None:
            state = StageState.fresh(members.flat, [h.finite for h in entering], has_plateau=has_plateau)
        else:
            members.flat.copy_(resumed["current"]["flat"])
            state = StageState.resumed(members.flat, resumed["current"], has_plateau=has_plateau)
            take_spent(resumed, entering)
        base = self.done
        gap = max(BATCH_BLOCK, stage.steps // MEASUREMENTS_A_STAGE)
        measured_at = state.step
        began = [
            self._measure(depth, run, histories, history.flat, 0)
            for run, history in zip(runs, entering, strict=True)
        ]

        def after_block(state: StageState) -> bool:
            nonlocal measured_at
            self.done = base + state.step
            due = state.step - measured_at >= gap
            measured_at = state.step if due else measured_at
            for row, run in enumerate(runs):
                here, ending = state.presence(row, stage)
                if ending or (here and due):
                    before = began[row] if ending else None
                    self._measure(depth, run, histories, members.flat[row], state.step, before)
            return self._attend((depth, number), runs, entering, histories, members.flat, state)

        if stage.refines:
            self._refine((depth, number), runs, histories, members, state, entering)
            after_block(state)
        else:
            train_stage(
                self.network,
                members,
                self._data,
                stage,
                self.recipe,
                self.objective,
                self.beginnings.steps_before(depth, runs[0]),
                state,
                after_block,
                cuda_graphs=self.cuda_graphs,
            )
        self.done = base + stage.steps
        for row, (run, history) in enumerate(zip(runs, entering, strict=True)):
            history.flat = members.flat[row].clone()
            history.finite = bool(state.finite[row])
            history.steps += int(state.made[row])
            history.spend(self._stage_flops(run, stage, state, row))
            histories[self.beginnings.key(run, depth + 1)] = history

    def _stage_flops(self, run: int, stage: Stage, state: StageState, row: int) -> int | None:
        """First-order steps, and the looks at a plateau; a refinement is counted where it happens."""
        if not state.is_counted:
            return None
        network = NetworkFlops(self.hierarchies[run], self.specs[run].dim, self.recipe.width)
        flops = int(state.made[row]) * network.step(stage, self.recipe.batch_size)
        if state.plateau is not None:
            flops += int(state.looks[row]) * network.value(stage.active, stage.tied, VALIDATION_ROWS)
        return flops

    def _refine(
        self,
        position: tuple[int, int],
        runs: list[int],
        histories: dict[str, History],
        members: Members,
        state: StageState,
        entering: list[History],
    ) -> None:
        """Refine the members together; an interruption starts those that have not ended again."""
        depth, _ = position
        steps = self.stages[runs[0]][depth].steps
        tasks = {
            row: Task(self.problems[run], self.stages[run][depth])
            for row, run in enumerate(runs)
            if bool(state.finite[row])
            and self._is_refined(self.stages[run][depth], run)
            and not entering[row].is_refined
            and state.step < steps
        }

        def ended(row: int, refined: RefinedMember) -> None:
            history = entering[row]
            history.restarts, history.restart_kept = refined.restarts, refined.restart_kept
            history.spend(refined.flops)
            history.is_refined = True
            members.flat[row] = refined.flat

        def goes_on() -> bool:
            return self._attend(position, runs, entering, histories, members.flat, state)

        refine_members(self.network, members, tasks, self.objective, self.recipe.restarts, ended, goes_on)
        state.step = steps

    def _is_refined(self, stage: Stage, run: int) -> bool:
        """Decided by the whole network, whatever the arm trains of it: all arms of a comparison or none."""
        rows = self.specs[run].n - self._held_out(run)
        return stage.refines and can_be_refined(parameters_of(self.network, tuple(self.network.levels)), rows)

    def _network_at(self, stage: Stage, run: int) -> DistilledDenseNet:
        """Tied where the stage ties. A refined network is not truncated: rows beyond B′ would hold it elsewhere."""
        network = self.network.with_tied(stage.tied)
        return network.untruncated() if self._is_refined(stage, run) else network

    def _members(self, runs: list[int], entering: list[History]) -> Members:
        flat = member_rows(torch.stack([history.flat for history in entering]))
        movable = torch.ones_like(flat)
        if self.recipe.rank == "threshold":
            for row, history in enumerate(entering):
                for level, rank in history.ranks.items():
                    self.network.distilled(movable, level)[row, rank:] = 0.0
        hierarchies = [self.hierarchies[run] for run in runs]
        return Members(
            flat=flat,
            lifts={
                level: torch.stack([self._lifts[run][level] for run in runs]) for level in self.network.levels
            },
            alphas={
                level: torch.tensor(
                    [hierarchy.alphas[level] for hierarchy in hierarchies],
                    dtype=self.dtype,
                    device=self.device,
                )
                for level in self.network.levels
            },
            movable=movable,
            seeds=tuple(self.specs[run].seed for run in runs),
            first_rows=tuple(self._first_rows[run] for run in runs),
            rows=tuple(self.specs[run].n - self._held_out(run) for run in runs),
            held_out=tuple(self._held_out(run) for run in runs),
        )

    def _held_out(self, run: int) -> int:
        """Samples of a run that no batch contains: the last ones, where a plateau is looked for."""
        if self.recipe.activation == "steps":
            return 0
        return max(1, round(self.recipe.validation_fraction * self.specs[run].n))

    # ---- surroundings ----------------------------------------------------------------------------

    def _measure(
        self,
        depth: int,
        run: int,
        histories: dict[str, History],
        flat: Float[Tensor, " p"],
        step: int,
        began: Numbers | None = None,
    ) -> Numbers:
        """Send what a network knows, so many steps into a stage, to every run that shares it.

        At a stage's end, where ``began`` is what it knew as the stage began, also what the stage changed.
        """
        stage = self.stages[run][depth]
        problem, predictor = self.problems[run], self._predictor(run, flat, stage)
        row = flat[None]
        numbers = numbers_of(predictor, problem)
        regularizer = Regularizer(
            predictor.network,
            self.recipe.tie_weights,
            stage.norm_weight(self.recipe),
            predictor.alphas,
            weight=self.objective.regularizer_weight,
        )
        numbers |= objective_numbers(
            predictor, problem, self.objective, regularizer, row, stage.active, stage.distilled
        )
        if began is not None:
            numbers |= improvement_numbers(began, numbers)
        left = {
            earlier.enters: self.network.distilled(
                histories[self.beginnings.key(run, position + 1)].flat[None], earlier.enters
            )[0]
            for position, earlier in enumerate(self.stages[run][:depth])
            if earlier.enters in stage.active
        }
        numbers |= cosine_numbers(left, {level: self.network.distilled(row, level)[0] for level in left})
        found = measurements(numbers.items(), self.beginnings.steps_before(depth, run) + step, stage.name)
        for sharer in self.beginnings.sharers(run, depth + 1):
            self.watch.observer.measured(sharer, found)
        return numbers

    def _attend(
        self,
        position: tuple[int, int],
        runs: list[int],
        entering: list[History],
        histories: dict[str, History],
        flat: Float[Tensor, "e p"],
        state: StageState,
    ) -> bool:
        """Surroundings, as :class:`PackWatch`; false where the stage at ``position`` is wanted no more."""

        def saved() -> dict[str, Any]:
            members = dict(zip(self._keys(position[0], runs), entering, strict=True))
            return checkpoint_of(position, self.done, histories, members, flat, state)

        if not self.watch.attend(self.done, self.total, saved):
            return True
        depth = position[0]
        return any(
            not self.watch.cancelled.issuperset(self.beginnings.sharers(run, depth + 1)) for run in runs
        )

    def _restored(self) -> tuple[tuple[int, int], dict[str, History], dict[str, Any] | None]:
        """Where to begin, with which histories, and the checkpoint of the group there, if there is one."""
        checkpoints = self.watch.checkpoints
        state = checkpoints.load() if checkpoints is not None else None
        if state is None:
            return (0, 0), {}, None
        depth, number = state["position"]
        groups = self.beginnings.groups(depth, self._together)
        if number >= len(groups) or not is_of(state, self._keys(depth, groups[number])):
            # An earlier version, or a device with other memory, took other members together: its stages start again.
            return self._begun(depth, 0), finished_histories(state, self.device), None
        return self._begun(depth, number), finished_histories(state, self.device), state

    def _begun(self, depth: int, number: int) -> tuple[int, int]:
        """The position, with ``done`` as it is when the group there begins."""
        self.done = sum(self.beginnings.steps_at(earlier, self._together) for earlier in range(depth))
        self.done += number * self.stages[0][depth].steps
        return depth, number

    def _keys(self, depth: int, runs: list[int]) -> list[str]:
        """Names of what runs are once they have been through their stages at ``depth``."""
        return [self.beginnings.key(run, depth + 1) for run in runs]

    # ---- results ---------------------------------------------------------------------------------

    def predictor(self, run: int, flat: Float[Tensor, " p"]) -> NetworkPredictor:
        """The network of a run at the end of its last stage, where ``flat`` are its parameters there."""
        return self._predictor(run, flat.to(self.device, self.dtype), self.stages[run][-1])

    def _predictor(self, run: int, flat: Tensor, stage: Stage) -> NetworkPredictor:
        hierarchy = self.hierarchies[run]
        return NetworkPredictor(
            self._network_at(stage, run),
            flat[None],
            {level: lift[None] for level, lift in self._lifts[run].items()},
            {
                level: torch.tensor([alpha], dtype=self.dtype, device=self.device)
                for level, alpha in hierarchy.alphas.items()
            },
            stage.active,
            stage.distilled,
            is_margin=self.is_margin,
        )

    def _fitted(self, run: int, histories: dict[str, History]) -> Fitted:
        stages = self.stages[run]
        history = histories.get(self.beginnings.key(run, len(stages)))
        if run in self.watch.cancelled or history is None:
            return Fitted(Outcome.CANCELLED, None, message="cancelled on request")
        steps = history.steps
        predictor = self._predictor(run, history.flat, stages[-1])
        if not history.finite or is_lost(self.problems[run], predictor, self.objective):
            what = "became infinite" if not history.finite else FAR_OFF
            return Fitted(
                Outcome.DIVERGED,
                None,
                steps,
                history.flops,
                message=f"the parameters {what}; try a smaller step_size than {self.recipe.step_size:g}, "
                f"a smaller clip_norm than {self.recipe.clip_norm:g}, a smaller init_scale than "
                f"{self.recipe.init_scale:g}, or loss 'huber'",
            )
        selection: Selection = {"is_refined": self._is_refined(stages[-1], run)}
        if history.restarts:
            selection |= {"restarts": history.restarts, "restart_kept": history.restart_kept}
        for level, rank in sorted(history.ranks.items()):
            selection[f"rank_level_{level}"] = rank
        warnings = tuple(
            f"level {level} was distilled to rank {rank} of {self.network.levels[level].k}"
            for level, rank in sorted(history.ranks.items())
            if rank < self.network.levels[level].k and self.recipe.rank == "threshold"
        ) + tuple(map(str, faint_levels(self.specs[run])))
        return Fitted(Outcome.SUCCEEDED, predictor, steps, history.flops, selection, warnings)


def _hierarchical(spec: RunSpec) -> HierarchicalLearner:
    learner = spec.learner
    if not isinstance(learner, HierarchicalLearner):
        raise TypeError(f"{learner.kind} is not a hierarchical learner")
    return learner
