"""``python -m migrations``: bring the database of the settings up to date."""

from migrations.upgrade import upgrade
from service.config import Settings
from service.database import open_database

if __name__ == "__main__":
    settings = Settings()
    upgrade(open_database(settings.database_url, settings.busy_timeout))
