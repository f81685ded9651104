"""Running a preset without any service."""

from collections.abc import Callable, Sequence

from bfc_core.packing import packs_of
from bfc_core.posing import PosedProblems
from bfc_core.reproductions.preset import Reproduction, Trained
from bfc_core.run import execute_pack
from bfc_core.specs import ExperimentSpec, Measurement, RunSpec, label_of
from bfc_core.statistics.aggregation import Row
from bfc_core.training.progress import SilentObserver

Say = Callable[[str], None]


class KeepingObserver(SilentObserver):
    """Keeps every measurement of a pack's runs."""

    def __init__(self, runs: int) -> None:
        self.kept: list[list[Measurement]] = [[] for _ in range(runs)]

    def measured(self, run: int, measurements: Sequence[Measurement]) -> None:
        """Keep them."""
        self.kept[run].extend(measurements)


def run_reproduction(
    preset: Reproduction, device: str = "cpu", say: Say = lambda _: None
) -> dict[str, list[Trained]]:
    """Train every run of every experiment, in the order of the grid. ``say`` hears one line a pack."""
    return {role: run_experiment(spec, device, say) for role, spec in preset.experiments.items()}


def run_experiment(spec: ExperimentSpec, device: str = "cpu", say: Say = lambda _: None) -> list[Trained]:
    """Train every run of one experiment, in the order of the grid."""
    runs = spec.runs()
    trained: dict[int, Trained] = {}
    position = {id(run): place for place, run in enumerate(runs)}
    packs, posed = packs_of(runs), PosedProblems()
    for number, pack in enumerate(packs, 1):
        say(f"{spec.name}: pack {number}/{len(packs)} ({label_of(pack[0].learner)}, {len(pack)} runs)")
        for run, result in zip(pack, _execute(pack, device, posed), strict=True):
            trained[position[id(run)]] = result
    return [trained[place] for place in range(len(runs))]


def _execute(pack: list[RunSpec], device: str, posed: PosedProblems) -> list[Trained]:
    observer = KeepingObserver(len(pack))
    reports = execute_pack(pack, observer, device, posed=posed)
    return [
        Trained(Row(run, report.outcome.value, report.metrics, report.seconds), kept)
        for run, report, kept in zip(pack, reports, observer.kept, strict=True)
    ]
