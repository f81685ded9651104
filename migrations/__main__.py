"""``python -m migrations``: bring the database of the settings up to date."""

import sys

from sqlalchemy.exc import SQLAlchemyError

from migrations.upgrade import upgrade
from service.config import read_settings
from service.database import in_words, open_database


def main() -> int:
    """Migrate; the process's exit code."""
    settings = read_settings()
    try:
        upgrade(open_database(settings.database_url, settings.busy_timeout))
    except SQLAlchemyError as error:
        sys.stderr.write(f"the database cannot be brought up to date: {in_words(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
