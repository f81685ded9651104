"""/v1/reproductions: theorems and published numbers as presets, with expected beside measured."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response

from bfc_core.reproductions.preset import Reproduction
from bfc_core.reproductions.presets import REPRODUCTIONS
from service.api_keys.quotas import check_quotas
from service.auth import Principal, PrincipalDep
from service.config import Settings
from service.database import Database
from service.dependencies import (
    DatabaseDep,
    PublisherDep,
    ReadingDep,
    SettingsDep,
    refuse_unknown_parameters,
)
from service.errors import ReproductionNotFoundError
from service.experiments.schemas import ExperimentRead
from service.experiments.submission import planned, submit
from service.pagination import Page
from service.reproductions.checking import read_check
from service.reproductions.schemas import (
    ExpectationRead,
    ReproductionCheck,
    ReproductionRead,
    ReproductionStarted,
    ReproductionSummary,
)

# Shorter than an experiment's key, because the role is appended to it.
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]

router = APIRouter(
    prefix="/v1/reproductions", tags=["reproductions"], dependencies=[Depends(refuse_unknown_parameters)]
)


@router.get("", operation_id="reproductions_list", summary="Every preset")
def list_all() -> Page[ReproductionSummary]:
    """List the presets: what each shows and what it must find."""
    return Page(items=[_summary(preset) for preset in REPRODUCTIONS.values()])


@router.get("/{name}", operation_id="reproductions_get", summary="One preset with its experiments")
def get_one(name: str) -> ReproductionRead:
    """Read a preset with the spec of every experiment it consists of."""
    preset = _named(name)
    return ReproductionRead(**_summary(preset).model_dump(), experiments=dict(preset.experiments))


@router.post(
    "/{name}", status_code=202, operation_id="reproductions_create", summary="Start a preset's experiments"
)
def start(
    name: str,
    response: Response,
    settings: SettingsDep,
    database: DatabaseDep,
    publisher: PublisherDep,
    principal: PrincipalDep,
    idempotency_key: Key = None,
) -> ReproductionStarted:
    """Submit every experiment of the preset; the verdict is at ``check`` once they have ended.

    Nothing is reused: to reproduce is to compute again. Under a known Idempotency-Key the experiments that it
    started are answered again, and what a quota kept from starting is started.
    """
    preset = _named(name)
    if idempotency_key is None:
        _check_quotas(preset, principal, database, settings)
    check = f"/v1/reproductions/{name}/check"
    response.headers["Location"], response.headers["Retry-After"] = check, "1"
    return ReproductionStarted(
        name=name,
        experiments={
            role: ExperimentRead.model_validate(
                submit(
                    spec, _key_of(idempotency_key, role), principal, database, publisher, settings, force=True
                ).answer
            )
            for role, spec in preset.experiments.items()
        },
        check=check,
    )


@router.get("/{name}/check", operation_id="reproductions_check", summary="Expected beside measured")
def get_check(name: str, session: ReadingDep) -> ReproductionCheck:
    """Check the newest experiment of every role of the preset."""
    return read_check(session, _named(name))


def _key_of(key: str | None, role: str) -> str | None:
    """Every experiment has a key of its own: one key belongs to one body."""
    return None if key is None else f"{key}/{role}"


def _check_quotas(preset: Reproduction, principal: Principal, database: Database, settings: Settings) -> None:
    """Refuse what would start some of the experiments and not others.

    Raises:
        QuotaExceededError: all of them together are more than the API key allows; nothing was stored.
    """
    if principal.live_runs_limit is None and principal.daily_seconds_limit is None:
        return
    with database.writing() as session:
        plans = [planned(session, spec, settings, force=True) for spec in preset.experiments.values()]
        check_quotas(
            session,
            principal,
            runs=sum(len(found.cells) for found in plans),
            seconds=sum(found.estimated_seconds for found in plans),
        )


def _named(name: str) -> Reproduction:
    if name not in REPRODUCTIONS:
        raise ReproductionNotFoundError(name, list(REPRODUCTIONS))
    return REPRODUCTIONS[name]


def _summary(preset: Reproduction) -> ReproductionSummary:
    return ReproductionSummary(
        name=preset.name,
        shows=preset.shows,
        source=preset.source,
        expectations=[
            ExpectationRead(sentence=each.sentence, low=each.low, high=each.high)
            for each in preset.expectations
        ],
    )
