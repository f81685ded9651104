"""Example bodies of the OpenAPI document; the test suite posts every one of them."""

from typing import Any

from fastapi import Body
from fastapi.openapi.models import Example

SMALLEST: dict[str, Any] = {
    "name": "smallest",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [{"kind": "algorithm_1"}, {"kind": "layerwise"}],
    "n": 64,
    "dim": 6,
    "seeds": 2,
    "budget": {"steps_per_stage": 20, "test_samples": 200},
}

FLAGSHIP: dict[str, Any] = {
    "name": "degree 8",
    "target": {"kind": "hierarchical_quadratic", "widths": [3, 2], "alphas": [1, 0.1]},
    "inputs": {"kind": "gaussian"},
    "learners": [
        {"kind": "algorithm_1"},
        {"kind": "joint"},
        {"kind": "layerwise"},
        {"kind": "kernel_ridge", "kernel": {"kind": "ntk", "depth": 3}},
        {"kind": "recursive_feature_machine"},
    ],
    "n": 4000,
    "dim": 20,
    "seeds": 3,
}

EXPERIMENTS: dict[str, Example] = {
    "smallest": Example(summary="Seconds on one core", value=SMALLEST),
    "flagship": Example(summary="The paper's claim", value=FLAGSHIP),
}

EXPERIMENT_EXAMPLES = Body(openapi_examples=EXPERIMENTS)

COMPLEXITY: dict[str, Any] = {
    "name": "samples that joint training and a kernel need",
    "target": {"kind": "hierarchical_quadratic", "widths": [2, 1], "alphas": [1, 0.1]},
    "learners": [
        {"kind": "joint", "steps_per_stage": 200},
        {"kind": "kernel_ridge", "kernel": {"kind": "polynomial", "degree": 4}},
    ],
    "dim": [6, 8],
    "eps": 0.1,
    "delta": 0.2,
    "n_min": 32,
    "n_max": 1024,
    "seeds": 5,
    "budget": {"test_samples": 1000},
}

COMPLEXITY_EXAMPLES = {"two learners": Example(summary="n* of two learners", value=COMPLEXITY)}
