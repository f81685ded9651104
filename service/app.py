"""The HTTP application: ``uvicorn --factory service.app:create_app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import Depends, FastAPI

from service.api_keys.endpoints import router as api_keys
from service.artifacts.endpoints import router as artifacts
from service.auth import KeyUse, authorize
from service.catalogue.endpoints import router as catalogue
from service.complexity.endpoints import router as complexity
from service.complexity_searches.endpoints import router as complexity_searches
from service.complexity_searches.progress import advance
from service.config import Settings
from service.database import open_database
from service.documentation import install_documentation
from service.error_handlers import install_error_handlers
from service.events import Feeds
from service.experiments.endpoints import router as experiments
from service.health import router as health
from service.jobs import Publisher
from service.metrics import Metrics
from service.metrics import router as metrics
from service.middleware import RequestEnvelope
from service.parent_watch import watch_parent
from service.reproductions.endpoints import router as reproductions
from service.runs.endpoints import router as runs
from service.runs.reconciler import Reconciler
from service.schema import install_schema
from service.store.opening import open_store
from service.webhooks.endpoints import router as webhooks


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; connections and threads start with its lifespan."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        watch_parent(settings.parent_pipe)
        publisher.start()
        reconciler.start()
        yield
        reconciler.stop()
        publisher.stop()
        database.dispose()

    database = open_database(settings.database_url, settings.busy_timeout)
    publisher = Publisher(settings)
    reconciler = Reconciler(
        database, publisher, settings, also=lambda: advance(database, publisher, settings)
    )
    app = FastAPI(
        title="BFC",
        version=_version(),
        summary="Train and compare hierarchical learners",
        description="Backward feature correction (arXiv:2001.04413) as a service.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.settings, app.state.database, app.state.publisher = settings, database, publisher
    app.state.store = open_store(settings)
    app.state.key_use = KeyUse()
    app.state.feeds = Feeds(database)
    app.state.metrics = Metrics(database, settings, app.state.feeds)
    app.add_middleware(RequestEnvelope, is_open=settings.auth == "loopback", metrics=app.state.metrics)
    install_error_handlers(app)
    # complexity first: its chart has a path that the experiments' charts would take for a name of theirs.
    for router in (
        complexity,
        experiments,
        complexity_searches,
        runs,
        artifacts,
        webhooks,
        reproductions,
        catalogue,
        api_keys,
        metrics,
    ):
        app.include_router(router, dependencies=[Depends(authorize)])
    app.include_router(health)
    install_documentation(app)
    install_schema(app)
    return app


def _version() -> str:
    try:
        return version("bfc")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"
