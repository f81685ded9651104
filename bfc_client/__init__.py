"""The client of a BFC server: ``bfc_client.connect()``, then experiments as objects."""

from bfc_client.client import Client, connect
from bfc_client.errors import (
    BadRequest,
    BfcApiError,
    BfcClientError,
    BodyTooLarge,
    Conflict,
    InvalidSettings,
    InvalidSpec,
    MissingPackage,
    NotAllowed,
    NotFound,
    ServerFailed,
    ServerNotFound,
    ServerUnreachable,
    SpecError,
    TooManyRequests,
    UnexpectedAnswer,
    Unprocessable,
    WaitTimedOut,
)
from bfc_client.experiment import Experiment

__all__ = [
    "BadRequest",
    "BfcApiError",
    "BfcClientError",
    "BodyTooLarge",
    "Client",
    "Conflict",
    "Experiment",
    "InvalidSettings",
    "InvalidSpec",
    "MissingPackage",
    "NotAllowed",
    "NotFound",
    "ServerFailed",
    "ServerNotFound",
    "ServerUnreachable",
    "SpecError",
    "TooManyRequests",
    "UnexpectedAnswer",
    "Unprocessable",
    "WaitTimedOut",
    "connect",
]
