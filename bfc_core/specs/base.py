"""What every spec has in common: frozen, strict about unknown fields, canonical as JSON, hashed by content."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SPEC_VERSION: Literal[1] = 1

Dim = Annotated[int, Field(ge=1, le=4096, description="input dimension")]
Samples = Annotated[int, Field(ge=8, le=1_000_000, description="training samples")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of every stream of a run")]
PositiveFloat = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Spec(BaseModel):
    """Base of the vocabulary: immutable, unknown fields rejected, NaN and infinity rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")

    def canonical_json(self) -> str:
        """Every default resolved, keys sorted, no spaces: equal specs give equal text."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    def content_hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()
