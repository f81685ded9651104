"""Strong entity tags: the hash of the bytes that are answered."""

import hashlib

from fastapi import Response
from pydantic import BaseModel


class Representation:
    """The JSON of a resource with its tag."""

    def __init__(self, resource: BaseModel) -> None:
        self.body = resource.model_dump_json().encode()
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def is_among(self, if_none_match: str | None) -> bool:
        """Whether a client that sent this header has this representation already (RFC 9110 §13.1.2)."""
        if if_none_match is None:
            return False
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return "*" in tags or self.etag in tags

    def answer(self, if_none_match: str | None) -> Response:
        """The representation, or 304 where the client has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache"}
        if self.is_among(if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type="application/json", headers=headers)
