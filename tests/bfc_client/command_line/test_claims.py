import pytest

from bfc_client.answers import Comparison, ExperimentStatus
from bfc_client.command_line.claims import claims_of

SUCCEEDED = ExperimentStatus.SUCCEEDED


def comparison(**changes):
    numbers = {
        "algorithm_1": 5e-4,
        "layerwise": 0.02,
        "polynomial": 0.6,
        "machine": 0.5,
        "given": 0.05,
        "layerwise_ratio": 40.0,
        "feature_ratio": 7.0,
        "given_ratio": 100.0,
        **changes,
    }
    learners = {
        "algorithm_1": {"kind": "algorithm_1"},
        "layerwise": {"kind": "layerwise"},
        "polynomial": {"kind": "kernel_ridge", "feature_map": "identity"},
        "machine": {"kind": "recursive_feature_machine"},
        "given": {"kind": "kernel_ridge", "feature_map": "quadratic"},
    }
    place = {"n": 1, "dim": 1, "alphas": [1.0]}
    ratios = [
        ("layerwise", "nmse", None, numbers["layerwise_ratio"]),
        ("layerwise", "feature_error", 2, numbers["feature_ratio"]),
        ("given", "nmse", None, numbers["given_ratio"]),
    ]
    return Comparison.model_validate(
        {
            "experiment_id": "x",
            "status": "succeeded",
            "cells": [
                {"label": label, "learner": learner, **place, "nmse": {"median": numbers[label], "seeds": 3}}
                for label, learner in learners.items()
                if numbers[label] != "absent"
            ],
            "ratios": [
                {
                    "label": label,
                    "against": "algorithm_1",
                    "metric": metric,
                    "level": level,
                    "median_ratio": ratio,
                    **place,
                }
                for label, metric, level, ratio in ratios
            ],
        }
    )


def test_the_paper_s_claim_holds():
    claims = claims_of(SUCCEEDED, comparison())
    assert len(claims) == 6
    assert all(claim.holds for claim in claims)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"algorithm_1": 1.1e-3}, 1),
        ({"algorithm_1": None}, 1),
        ({"algorithm_1": "absent"}, 1),
        ({"layerwise_ratio": 4.9}, 2),
        ({"layerwise_ratio": None}, 2),
        ({"feature_ratio": 2.9}, 3),
        ({"polynomial": 0.29}, 4),
        ({"machine": 0.1}, 4),
        ({"machine": None}, 4),
        ({"given_ratio": 9.0}, 5),
        ({"given": "absent"}, 5),
    ],
)
def test_each_number_can_break_its_own_line(change, broken):
    claims = claims_of(SUCCEEDED, comparison(**change))
    assert [index for index, claim in enumerate(claims) if not claim.holds] == [broken]


def test_lost_runs_break_the_first_line():
    assert not claims_of(ExperimentStatus.PARTIALLY_SUCCEEDED, comparison())[0].holds
