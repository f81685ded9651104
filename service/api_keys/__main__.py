"""``python -m service.api_keys create --owner NAME``: make a key from the machine that has the database.

The secret goes to stdout, once, and nothing else does: ``BFC_TOKEN=$(python -m service.api_keys create …)``.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.api_keys import repository
from service.api_keys.schemas import ApiKeyCreate
from service.config import read_settings
from service.database import database_now, in_words, open_database
from service.errors import ApiKeyNotFoundError
from service.models import Scope


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service.api_keys", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print its secret")
    create.add_argument("--owner", required=True)
    create.add_argument("--name", default="from the command line")
    create.add_argument(
        "--scope", action="append", choices=[scope.value for scope in Scope], help="default: admin"
    )
    create.add_argument("--days", type=float, help="until it expires; default: never")
    commands.add_parser("list", help="keys without their secrets")
    revoke = commands.add_parser("revoke", help="end a key at once")
    revoke.add_argument("id", type=UUID)
    given = parser.parse_args(arguments)
    asked = _asked(parser, given) if given.command == "create" else None
    settings = read_settings()
    try:
        database = open_database(settings.database_url, settings.busy_timeout)
        with database.writing() as session:
            return _done(session, given, asked)
    except SQLAlchemyError as error:
        sys.stderr.write(
            f"the database cannot be used: {in_words(error)}\nis it up to date? python -m migrations\n"
        )
        return 1


def _asked(parser: argparse.ArgumentParser, given: argparse.Namespace) -> ApiKeyCreate:
    """The key to be made, within the limits that hold over HTTP."""
    try:
        return ApiKeyCreate(
            name=given.name,
            owner=given.owner,
            scopes=[Scope(scope) for scope in given.scope or [Scope.ADMIN]],
            expires_in_days=given.days,
        )
    except ValidationError as refusal:
        options = {"expires_in_days": "days", "scopes": "scope"}
        faults = [(str(fault["loc"][0]), fault["msg"]) for fault in refusal.errors()]
        parser.error("; ".join(f"--{options.get(field, field)}: {said}" for field, said in faults))


def _done(session: Session, given: argparse.Namespace, asked: ApiKeyCreate | None) -> int:
    if asked is not None:
        days = asked.expires_in_days
        key, secret = repository.issue(
            session,
            name=asked.name,
            owner=asked.owner,
            scopes=set(asked.scopes),
            expires_at=None if days is None else database_now(session) + timedelta(days=days),
        )
        sys.stderr.write(f"key {key.id} of {key.owner}; its secret is shown this once\n")
        sys.stdout.write(f"{secret}\n")
    elif given.command == "list":
        for key in repository.list_keys(session):
            state = "revoked" if key.revoked_at else f"expires {key.expires_at or 'never'}"
            sys.stdout.write(f"{key.id}  {key.owner}  {','.join(key.scopes)}  {state}  {key.name}\n")
    else:
        try:
            repository.revoke(session, given.id)
        except ApiKeyNotFoundError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
