"""What the API says of an artifact."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel


class ArtifactRead(BaseModel):
    """A file that a run left. ``sha256`` is over its bytes, in hex; ``path`` is where to download it."""

    run_id: UUID
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime
    path: str


class ArtifactList(BaseModel):
    """Every artifact of a run; there are few."""

    items: list[ArtifactRead]
