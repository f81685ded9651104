"""Settings of a deployment: read once at the start of a process and passed on.

Every field is the environment variable ``BFC_`` + its name in capitals. Durations are seconds or ISO 8601
("PT90S"). Specs say what is asked; settings say where and with what limits it runs.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _seconds(value: object) -> object:
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except ValueError:
            return value
    return value


def _nothing_where_empty(value: object) -> object:
    """A composition passes a variable that is not set as an empty one."""
    return None if value == "" else value


Duration = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]
Bytes = Annotated[int, Field(gt=0)]

CrashPoint = Literal[
    # the API
    "before_accept", "after_accept", "after_publish",
    # the worker
    "after_claim", "claimed_ahead", "before_commit", "after_commit",
    # the child
    "in_training", "segfault", "raise", "while_saving", "before_result_file", "after_result_file",
]  # fmt: skip


RENAMED = {"BFC_KERNEL_MEMORY_LIMIT_BYTES": "BFC_PACK_MEMORY_LIMIT_BYTES"}
"""Variables that an earlier version read: to overlook a limit would be worse than not to start."""


class Settings(BaseSettings):
    """One object for the API, the worker and the embedded stack."""

    # What is wrong is said without what was given, which holds passwords.
    model_config = SettingsConfigDict(
        env_prefix="BFC_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    # Where things are
    data_dir: Path = Field(default=Path("var"), description="checkpoints, results, artifacts, locks")
    data_sets_dir: Path | None = Field(
        default=None,
        description="users' files for targets of kind array, the same files for the API and every worker; "
        "null: data_dir/data-sets",
    )
    # Addresses hold passwords: they never appear in what prints settings.
    database_url: str = Field(default="sqlite:///var/bfc.db", repr=False)
    broker_url: str = Field(
        default="filesystem://", repr=False, description="filesystem:// (in data_dir), redis://… or amqp://…"
    )
    broker_prefix: str = Field(
        default="", description="put before every queue name; lets tests share a broker"
    )
    busy_timeout: Duration = Field(default=timedelta(seconds=30), description="of SQLite writers")

    # What machines share beside the database: checkpoints and artifacts
    store_url: str = Field(
        default="",
        description="file:///folder or s3://bucket/prefix, one of a deployment; empty: artifacts lie in data_dir, "
        "and checkpoints are seen by this machine alone",
    )
    store_endpoint: str = Field(default="", description="of S3, where it is not Amazon's: https://host:port")
    store_region: str = "us-east-1"
    store_access_key_id: SecretStr | None = Field(
        default=None, description="else AWS_… or the machine's role"
    )
    store_secret_access_key: SecretStr | None = None
    store_timeout: Duration = Field(default=timedelta(seconds=30), description="for one request to S3")
    artifact_limit_bytes: Bytes = Field(default=256 * 2**20, description="largest file that a run may keep")
    artifact_retention: Duration = Field(
        default=timedelta(days=30), description="how long the files of a run are kept"
    )
    measurement_retention: Duration | None = Field(
        default=None,
        description="how long after a run's end its measurements are kept (P90D); null: for ever. Of workers",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    auth: Literal["loopback", "keys"] = Field(
        default="loopback",
        description="loopback: no keys, and no answer but on the loopback address; keys: every request needs one",
    )

    # Webhooks: off unless both are set
    webhook_allow: str = Field(
        default="",
        description="hosts that may be called, separated by commas: *, every public address under https; host or "
        "host:port, that one also where it is private or without TLS",
    )
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=32, description="what the keys of signatures are derived from"
    )
    webhook_timeout: Duration = Field(
        default=timedelta(seconds=10), description="for one call, from connect on"
    )
    webhook_retry_first: Duration = Field(
        default=timedelta(seconds=30), description="until a failed call is repeated; doubles up to six hours"
    )

    # Limits, checked before anything is stored
    pack_memory_limit_bytes: Bytes = Field(
        default=4 * 2**30,
        description="estimated peak of one pack: a larger run is refused, and networks keep company only within it",
    )

    kernel_cache_limit_bytes: Annotated[int, Field(ge=0)] = Field(
        default=2**30, description="eigendecompositions kept in data_dir between packs; 0 keeps none"
    )

    pack_members: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="most runs of a pack, however long they are. Null: as many networks as are fastest, and more "
        "while a pack is short. 1 packs nothing",
    )
    network_pack_bytes: Annotated[Bytes | None, BeforeValidator(_nothing_where_empty)] = Field(
        default=None,
        description="memory of the device that trains networks which one pack of them may fill: half of a GPU's. "
        "Null: packs have the sizes for a CPU. Of the API, and the same for all of them",
    )

    # Lifecycle
    lease: Duration = timedelta(seconds=60)
    heartbeat_interval: Duration = timedelta(seconds=15)
    reconcile_interval: Duration = timedelta(seconds=5)
    republish_first: Duration = timedelta(seconds=5)
    republish_cap: Duration = timedelta(minutes=10)
    backlog_limit: Annotated[int, Field(ge=1)] = Field(
        default=64, description="wake-ups waiting in the broker beyond which none is repeated"
    )
    broker_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="for connecting and publishing; a frozen broker costs no more",
    )
    crash_limit: Annotated[int, Field(ge=1)] = Field(
        default=3,
        description="crashes without checkpoint progress until a run counts as poison; the worker's setting holds",
    )
    progress_interval: Duration = Field(
        default=timedelta(seconds=1), description="least time between two progress writes of a pack"
    )

    # Queues: one per resource. Workers take from ``queue``.
    queue: str = Field(default="train.cpu", description="where accepted packs wait; what a worker takes from")
    network_queue: str = Field(
        default="",
        description="where packs that train networks wait instead, so that GPU workers take them: train.gpu; of the "
        "API, and the same for all of them",
    )

    # Worker
    device: str = Field(default="cpu", description="cpu, cuda, or a GPU's UUID (GPU-…)")
    cuda_graphs: bool = Field(
        default=False, description="record a training step once and let the GPU replay it; for long runs"
    )
    concurrency: Annotated[int, Field(ge=1, le=256)] = 1
    child_start: Literal["forkserver", "spawn"] = Field(
        default="forkserver", description="how a pack's process starts; spawn for GPUs"
    )
    waiting_children: Annotated[int, Field(ge=0, le=256)] = Field(
        default=1, description="processes that are started before there is a pack for them"
    )
    child_threads: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="threads of one child; cores / concurrency where null"
    )
    child_memory_limit_bytes: Bytes | None = Field(
        default=None, description="resident bytes beyond which a child is stopped and its runs fail"
    )
    control_interval: Duration = Field(
        default=timedelta(milliseconds=500), description="how often a running pack looks for a cancel"
    )
    cancel_grace: Duration = Field(
        default=timedelta(seconds=10), description="from asking a child to SIGKILL"
    )
    drain_grace: Duration = Field(default=timedelta(seconds=30), description="for a checkpoint on SIGTERM")
    stall_timeout: Duration = Field(
        default=timedelta(minutes=15), description="without a line from the child"
    )
    checkpoint_interval: Duration = timedelta(seconds=60)
    parent_pipe: int | None = Field(
        default=None, description="descriptor whose closing ends this process; set by the embedded stack"
    )
    start_pipe: int | None = Field(
        default=None, description="descriptor whose closing says that the database is migrated; as above"
    )
    crash_point: CrashPoint | None = Field(default=None, description="tests only: die at this named line")
    crash_attempts: Annotated[int, Field(ge=1)] = Field(
        default=1_000_000,
        description="tests only: how many attempts at a pack the child's crash points spoil",
    )

    @property
    def data_sets_folder(self) -> Path:
        """Where users' files lie."""
        return self.data_sets_dir or self.data_dir / "data-sets"

    @model_validator(mode="after")
    def _graphs_have_a_gpu(self) -> Self:
        if self.cuda_graphs and self.device == "cpu":
            raise ValueError("cuda_graphs needs a GPU: set device to cuda or to a GPU's UUID")
        return self

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.lease < 2 * self.heartbeat_interval:
            raise ValueError(
                "lease must be at least twice heartbeat_interval: one lost heartbeat must not lose a pack"
            )
        return self

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.webhook_allow and self.webhook_secret is None:
            raise ValueError("webhook_allow needs a webhook_secret: an unsigned call proves nothing")
        return self

    @model_validator(mode="after")
    def _one_pack_a_gpu(self) -> Self:
        if self.device != "cpu" and self.concurrency > 1:
            raise ValueError(
                "a GPU trains one pack at a time, or two would run out of its memory together: set concurrency to 1 "
                "and start one worker a GPU"
            )
        return self


def read_settings() -> Settings:
    """The settings of this process, for its main function.

    Raises:
        SystemExit: with status 2, after a line for each variable of the environment that is wrong.
    """
    for old, new in RENAMED.items():
        if old in os.environ:  # noqa: TID251 - no setting any more
            sys.stderr.write(f"{old}: it is called {new} now, and holds for every learner\n")
            raise SystemExit(2)
    try:
        return Settings()
    except ValidationError as refusal:
        for fault in refusal.errors():
            name = "".join(f"BFC_{place}".upper() for place in fault["loc"][:1]) or "BFC_…"
            sys.stderr.write(f"{name}: {fault['msg']}\n")
        raise SystemExit(2) from refusal
