"""/v1/learners and /v1/targets: what may be asked, with the JSON Schema of each kind."""

from functools import cache
from typing import Any, get_args

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field, TypeAdapter

from bfc_core.specs import AnyLearner, AnyTarget, Spec, TargetSpec
from bfc_core.theory.sheets import sheet_of
from service.complexity.reading import theory_read
from service.complexity.schemas import TheoryRead
from service.dependencies import refuse_unknown_parameters
from service.errors import KindNotFoundError
from service.pagination import Page

_DATA_SETS = {"images", "array"}
"""They have no theory, and an array no default fields."""

router = APIRouter(prefix="/v1", dependencies=[Depends(refuse_unknown_parameters)])


class KindRead(BaseModel):
    """One kind: its name, what it is, and the schema of its fields."""

    kind: str
    title: str
    description: str
    json_schema: dict[str, Any]


class ThresholdRead(BaseModel):
    """An error below which something further must have been learned."""

    name: str
    value: float
    statement: str


class SheetRead(BaseModel):
    """What theory says of a target with its default fields."""

    formula: str
    degree: int
    bounds: list[TheoryRead]
    thresholds: list[ThresholdRead]


class TargetKindRead(KindRead):
    """A kind of target with its theory sheet, where there is one."""

    theory: SheetRead | None = Field(default=None, description="for the default fields of the target")


@router.get("/learners", tags=["learners"], operation_id="learners_list", summary="Every learner")
def list_learners() -> Page[KindRead]:
    """List the learners with their JSON Schema."""
    return Page(items=list(_kinds(AnyLearner).values()))


@router.get("/learners/{kind}", tags=["learners"], operation_id="learners_get", summary="One learner")
def get_learner(kind: str) -> KindRead:
    """Read one learner's description and JSON Schema."""
    return _kind("learner", kind, _kinds(AnyLearner))


@router.get("/targets", tags=["targets"], operation_id="targets_list", summary="Every target")
def list_targets() -> Page[KindRead]:
    """List the targets with their JSON Schema."""
    return Page(items=list(_kinds(AnyTarget).values()))


@router.get("/targets/{kind}", tags=["targets"], operation_id="targets_get", summary="One target")
def get_target(kind: str) -> TargetKindRead:
    """Read one target's description, JSON Schema and theory sheet."""
    found = _kind("target", kind, _kinds(AnyTarget))
    return TargetKindRead(**found.model_dump(), theory=_sheet(kind))


@cache
def _kinds(union: Any) -> dict[str, KindRead]:  # noqa: ANN401 - a union of spec classes
    found: dict[str, KindRead] = {}
    for spec in get_args(union):
        assert issubclass(spec, Spec)
        kind = get_args(spec.model_fields["kind"].annotation)[0]
        title, _, rest = (spec.__doc__ or "").partition("\n")
        found[kind] = KindRead(
            kind=kind,
            title=title.strip().rstrip("."),
            description=" ".join(rest.split()),
            json_schema=spec.model_json_schema(),
        )
    return found


def _sheet(kind: str) -> SheetRead | None:
    if kind in _DATA_SETS:
        return None
    sheet = sheet_of(TypeAdapter(TargetSpec).validate_python({"kind": kind}))
    if sheet is None:
        return None
    return SheetRead(
        formula=sheet.formula,
        degree=sheet.degree,
        bounds=[theory_read(bound) for bound in sheet.bounds],
        thresholds=[
            ThresholdRead.model_validate(threshold, from_attributes=True) for threshold in sheet.thresholds
        ],
    )


def _kind(noun: str, kind: str, known: dict[str, KindRead]) -> KindRead:
    if kind not in known:
        raise KindNotFoundError(noun, kind, list(known))
    return known[kind]
