"""The API's own environment: no torch in it, every page and migration in the wheel, and it starts.

Run by ``make api-only`` with the interpreter of that environment, isolated from the source tree.
"""

import importlib.metadata
import importlib.util
import sys
import tempfile
from pathlib import Path

import service
from migrations.upgrade import upgrade
from service.app import create_app
from service.config import Settings
from service.database import open_database


def main() -> None:
    """Raise SystemExit with a sentence where something is wrong."""
    if "site-packages" not in str(service.__file__):
        sys.exit(f"the check must see the wheel, it sees {service.__file__}")
    if importlib.util.find_spec("torch") is not None or "torch" in sys.modules:
        sys.exit("torch is in the API's environment")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder), database_url=f"sqlite:///{folder}/bfc.db", broker_url="filesystem://"
        )
        database = open_database(settings.database_url, settings.busy_timeout)
        upgrade(database)
        database.dispose()
        application = create_app(settings)
    routes = application.openapi()["paths"]
    if "/v1/experiments" not in routes:
        sys.exit(f"the API has no /v1/experiments: {sorted(routes)}")
    version = importlib.metadata.version("bfc")
    sys.stdout.write(f"bfc {version}: the API starts without torch, {len(routes)} paths\n")


if __name__ == "__main__":
    main()
