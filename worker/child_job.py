"""What a child is told: everything it needs and no credentials."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class ChildJob(BaseModel):
    """One pack to execute."""

    model_config = ConfigDict(frozen=True)

    specs: list[dict[str, Any]]
    device: str
    threads: int
    cuda_graphs: bool = False
    folder: str
    earlier: list[str]
    log: str
    result: str
    artifacts: str
    checkpoint_interval_seconds: float
    pack_memory_limit_bytes: int
    kernel_cache: str | None = None
    kernel_cache_limit_bytes: int = 0
    data_sets: str | None = None
    crash_point: str | None = None
