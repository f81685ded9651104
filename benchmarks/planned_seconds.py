"""What the plan says of learners beside what they take: processor seconds of whole runs, each alone, on one thread."""

import time
from typing import Any

from benchmarks.timing import Ratio, Result
from bfc_core.packing import estimate_run
from bfc_core.run import execute_pack
from bfc_core.specs import RunSpec

CLAIM = "The planned seconds of kernel learners and of networks are within a factor of three of the measured ones."

BOUND = 3.0


def _kernel(kernel: dict[str, Any], **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the spec
    return {"kind": "kernel_ridge", "kernel": kernel} | fields


RBF = {"kind": "rbf", "bandwidths": [2.0]}
NTK = {"kind": "ntk", "depth": 3}
IMAGE = [6, 6, 1]
CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    "rbf, eigendecomposition": (_kernel(RBF), 1500, 20),
    "rbf, five bandwidths": (_kernel({"kind": "rbf"}), 1000, 20),
    "rbf, refits": (_kernel(RBF), 4000, 20),
    "laplace, one ridge": (_kernel({"kind": "laplace", "bandwidths": [10.0]}, ridges=[1e-3]), 4000, 20),
    "ntk, refits": (_kernel(NTK), 3000, 20),
    "polynomial, features": (_kernel({"kind": "polynomial", "degree": 2}), 4000, 20),
    "rbf, nystrom": (_kernel(RBF, solver="nystrom"), 20_000, 20),
    "rbf, iterative": (_kernel(RBF, solver="iterative", centres=500), 20_000, 20),
    "convolutional, flattened": (_kernel({"kind": "convolutional", "image": IMAGE, "readout": "flatten"}), 600, 36),
    "convolutional, averaged": (_kernel({"kind": "convolutional", "image": IMAGE, "depth": 2}), 200, 36),
    "myrtle": (_kernel({"kind": "myrtle", "image": [8, 8, 1]}), 150, 64),
    "feature machine": ({"kind": "recursive_feature_machine"}, 1500, 20),
    "feature machine, large": (
        {"kind": "recursive_feature_machine", "bandwidths": [10.0], "ridges": [1e-3]}, 3000, 20,
    ),
}  # fmt: skip


PLAIN = {"kind": "multi_index", "degrees": [2]}


def _network(kind: str, steps: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the spec
    return {"kind": kind, "steps_per_stage": steps} | fields


TWO = {"kind": "hierarchical_quadratic"}
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    "algorithm 1, short": (TWO, _network("algorithm_1", 50), 768, 10),
    "algorithm 1, long": (TWO, _network("algorithm_1", 1000), 4000, 20),
    "algorithm 1, noise": (TWO | {"label_noise": 0.3}, _network("algorithm_1", 50), 768, 20),
    "algorithm 1, classification": (TWO | {"task": "classification"}, _network("algorithm_1", 50), 768, 20),
    "layerwise": (TWO, _network("layerwise", 50), 768, 10),
    "joint": (TWO, _network("joint", 1000), 4000, 20),
    "joint, tiny": (TWO | {"widths": [2, 1]}, _network("joint", 100, width=8, batch_size=64), 64, 6),
    "joint, three levels": (
        TWO | {"widths": [20, 20, 20], "alphas": [1, 0.1, 0.01]},
        _network("joint", 300, batch_size=256, refinement_steps=0),
        4000,
        30,
    ),
    "joint, wide": (TWO | {"widths": [32, 32]}, _network("joint", 40, width=256), 4000, 128),
    "joint, many samples": (TWO, _network("joint", 10, refinement_steps=0), 200_000, 50),
}


def measure(repetitions: int) -> Result:
    """Every case once, for the longest take half a minute; ``repetitions`` of the short ones."""
    seconds: dict[str, list[float]] = {}
    ratios = []
    facts: dict[str, object] = {}
    cases = {name: (PLAIN, *case) for name, case in CASES.items()} | NETWORKS
    for name, (target, learner, n, dim) in cases.items():
        run = RunSpec.model_validate(
            {
                "target": target,
                "learner": learner,
                "n": n,
                "dim": dim,
                "seed": 0,
                "budget": {"test_samples": 100},
            }
        )
        planned = estimate_run(run).seconds
        taken: list[float] = []
        while not taken or (len(taken) < repetitions and sum(taken) < 1):
            started = time.process_time()
            execute_pack([run])
            taken.append(time.process_time() - started)
        seconds[name] = taken
        facts[f"planned, {name}"] = round(planned, 3)
        off = tuple(max(planned / one, one / planned) for one in taken)
        ratios.append(Ratio(f"off by a factor of, {name}", off, BOUND, is_upper=True))
    return Result(seconds, ratios, facts)
