"""/v1/runs/{run_id}/artifacts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from fastapi.responses import StreamingResponse

from service.artifacts.repository import check_may_read, get_artifact, list_artifacts
from service.artifacts.schemas import ArtifactList
from service.auth import PrincipalDep
from service.dependencies import ReadingDep, SettingsDep, StoreDep, refuse_unknown_parameters
from service.errors import ArtifactNotFoundError, StoreAwayError
from service.store.base import StoreUnavailableError

router = APIRouter(prefix="/v1/runs", tags=["artifacts"], dependencies=[Depends(refuse_unknown_parameters)])

Name = Annotated[str, Path(max_length=100, pattern=r"^[a-z][a-z0-9_-]*\.[a-z]+$")]


@router.get("/{run_id}/artifacts", operation_id="artifacts_list", summary="Files that a run left")
def get_all(
    run_id: UUID, session: ReadingDep, settings: SettingsDep, principal: PrincipalDep
) -> ArtifactList:
    """List the files of a run, with size and hash; empty unless its budget keeps something."""
    check_may_read(session, run_id, principal)
    return ArtifactList(items=list_artifacts(session, run_id, settings.artifact_retention))


@router.get(
    "/{run_id}/artifacts/{name}",
    operation_id="artifacts_download",
    summary="Download a file that a run left",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/vnd.safetensors": {}},
            "description": "The file; its ETag is the SHA-256",
        }
    },
)
def download(
    run_id: UUID, name: Name, session: ReadingDep, store: StoreDep, principal: PrincipalDep
) -> StreamingResponse:
    """Stream the file; compare what arrives with the ETag, its SHA-256 in hex."""
    check_may_read(session, run_id, principal)
    artifact = get_artifact(session, run_id, name)
    try:
        pieces = store.stream(artifact.uri)
    except StoreUnavailableError as error:
        raise StoreAwayError from error
    if pieces is None:
        raise ArtifactNotFoundError(run_id, name)
    return StreamingResponse(
        pieces,
        media_type=artifact.media_type,
        headers={
            "ETag": f'"{artifact.sha256}"',
            "Content-Length": str(artifact.size_bytes),
            "Content-Disposition": f'attachment; filename="{artifact.name}"',
        },
    )
