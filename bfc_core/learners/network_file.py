"""A trained network as a file: weights and what gives them their meaning, in the safetensors format.

The format holds arrays and text and no code, so that reading a file from elsewhere is safe. The header's ``bfc``
entry is one JSON document: the shape that the learner was told, which levels are active, distilled and tied.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bfc_core.errors import BfcError
from bfc_core.learners.network_predictor import NetworkPredictor
from bfc_core.networks.distilled_densenet import DistilledDenseNet
from bfc_core.specs import Hierarchy, RunSpec

NAME = "predictor.safetensors"
_FORMAT = 1


class NotAPredictorFileError(BfcError):
    """The file is damaged, of another format, or no predictor."""


def save_network(predictor: NetworkPredictor, spec: RunSpec, path: Path) -> None:
    """Write a predictor; the file appears under its name when it is whole.

    Tensors: ``flat`` (p), and for every level ``lift.ℓ`` (q × k) and ``alpha.ℓ`` (1), in the training's precision.
    """
    network = predictor.network
    tensors = {"flat": predictor.flat[0]}
    tensors |= {f"lift.{level}": lift[0] for level, lift in predictor.lifts.items()}
    tensors |= {f"alpha.{level}": alpha for level, alpha in predictor.alphas.items()}
    document = {
        "format": _FORMAT,
        "hierarchy": asdict(network.hierarchy),
        "dim": network.dim,
        "width": network.width,
        "truncation": network.truncation,
        "tied": sorted(network.tied),
        "active": predictor.active,
        "distilled": predictor.distilled,
        "is_margin": predictor.is_margin,
        "spec": spec.model_dump(mode="json"),
    }
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"bfc": json.dumps(document, sort_keys=True)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def load_network(path: Path) -> NetworkPredictor:
    """Read a predictor that ``save_network`` wrote; on the CPU, in the training's precision.

    Raises:
        NotAPredictorFileError: it is none.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            document: dict[str, Any] = json.loads((file.metadata() or {})["bfc"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if document["format"] != _FORMAT:
            raise NotAPredictorFileError(f"format {document['format']} of {path.name} is unknown here")
        told = document["hierarchy"]
        hierarchy = Hierarchy(
            widths=_by_level(told["widths"]),
            alphas=_by_level(told["alphas"]),
            connections={level: tuple(sources) for level, sources in _by_level(told["connections"]).items()},
            level_one_mean=float(told["level_one_mean"]),
        )
        network = DistilledDenseNet(hierarchy, document["dim"], document["width"], document["truncation"])
        predictor = NetworkPredictor(
            network.with_tied(tuple(document["tied"])),
            tensors["flat"][None],
            {level: tensors[f"lift.{level}"][None] for level in network.levels},
            {level: tensors[f"alpha.{level}"] for level in network.levels},
            tuple(document["active"]),
            tuple(document["distilled"]),
            is_margin=bool(document["is_margin"]),
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise NotAPredictorFileError(f"{path.name} is no predictor: {error}") from error
    if tensors["flat"].shape != torch.Size([network.parameter_count]):
        raise NotAPredictorFileError(f"{path.name} has weights of another shape than it says")
    return predictor


def _by_level(values: dict[str, Any]) -> dict[int, Any]:
    """JSON has text where levels were numbers."""
    return {int(level): value for level, value in values.items()}
