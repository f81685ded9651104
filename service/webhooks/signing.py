"""Signatures by the Standard Webhooks convention (standardwebhooks.com), version 1."""

import base64
import hashlib
import hmac
from uuid import UUID

PREFIX = "whsec_"


def secret_of(deployment_secret: str, webhook_id: UUID) -> bytes:
    """The key of one webhook, derived so that no database holds it."""
    return hmac.digest(deployment_secret.encode(), b"bfc webhook " + webhook_id.bytes, hashlib.sha256)


def shown(secret: bytes) -> str:
    """A key as receivers are given it."""
    return PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: HMAC-SHA256 over id, time and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
