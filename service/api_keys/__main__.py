"""``python -m service.api_keys create --owner NAME``: make a key from the machine that has the database.

The secret goes to stdout, once, and nothing else does: ``BFC_TOKEN=$(python -m service.api_keys create …)``.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from service.api_keys import repository
from service.config import Settings
from service.database import database_now, open_database
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
    settings = Settings()
    database = open_database(settings.database_url, settings.busy_timeout)
    with database.writing() as session:
        match given.command:
            case "create":
                key, secret = repository.issue(
                    session,
                    name=given.name,
                    owner=given.owner,
                    scopes={Scope(scope) for scope in given.scope or [Scope.ADMIN]},
                    expires_at=None
                    if given.days is None
                    else database_now(session) + timedelta(days=given.days),
                )
                sys.stderr.write(f"key {key.id} of {key.owner}; its secret is shown this once\n")
                sys.stdout.write(f"{secret}\n")
            case "list":
                for key in repository.list_keys(session):
                    state = "revoked" if key.revoked_at else f"expires {key.expires_at or 'never'}"
                    sys.stdout.write(f"{key.id}  {key.owner}  {','.join(key.scopes)}  {state}  {key.name}\n")
            case "revoke":
                try:
                    repository.revoke(session, given.id)
                except ApiKeyNotFoundError as error:
                    sys.stderr.write(f"{error}\n")
                    return 1
    database.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
