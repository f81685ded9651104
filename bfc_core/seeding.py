"""Randomness as an argument: one independent stream per seed and purpose.

More samples never change the target, and all learners of one seed see the same data, because
each purpose draws from a generator of its own.
"""

import hashlib
from typing import Literal

import torch

Purpose = Literal[
    "target",
    "normalisation",
    "law",
    "inputs",
    "noise",
    "offset",
    "test offset",
    "misspecification",
    "twin",
    "init",
    "batches",
    "restart",
    "saddle noise",
    "test",
    "validation",
]


def generator_for(seed: int, purpose: Purpose, block: int = 0) -> torch.Generator:
    """A CPU generator for one purpose of one seed, independent of every other purpose and seed.

    ``block`` numbers independent pieces of a long stream, so that a piece can be drawn without the ones
    before it (a resumed run starts at any block). The stream's seed is 63 bits of SHA-256 over all three,
    so neighbouring seeds share nothing. Streams are drawn on the CPU whatever the device that trains:
    the same seed means the same data everywhere.
    """
    digest = hashlib.sha256(f"bfc/{seed}/{purpose}/{block}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
