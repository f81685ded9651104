"""What endpoints ask for, as annotated types. Only endpoints import this."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session

from service.config import Settings
from service.database import Database
from service.events import Feeds
from service.jobs import Publisher
from service.pagination import MAX_LIMIT
from service.store.base import Store


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _reading(request: Request) -> Iterator[Session]:
    with _database(request).reading() as session:
        yield session


def _feeds(request: Request) -> Feeds:
    feeds: Feeds = request.app.state.feeds
    return feeds


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the operation does not have, or that are given twice.

    A misspelt filter must not answer everything, and of ``dry_run=true&dry_run=false`` none may win in silence.

    Raises:
        RequestValidationError: names each of them.
    """
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params}
    given = Counter(name for name, _ in request.query_params.multi_items())
    unknown = [name for name in given if name not in known]
    repeated = [name for name, times in given.items() if times > 1 and name in known]
    if unknown or repeated:
        raise RequestValidationError(
            [
                {"type": "parameter_unknown", "loc": ("query", name), "msg": "there is no such parameter"}
                for name in unknown
            ]
            + [
                {"type": "parameter_repeated", "loc": ("query", name), "msg": "it is given more than once"}
                for name in repeated
            ]
        )


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
PublisherDep = Annotated[Publisher, Depends(_publisher)]
StoreDep = Annotated[Store, Depends(_store)]
FeedsDep = Annotated[Feeds, Depends(_feeds)]
# scope="function": the session is closed before the answer begins, so a slow reader holds no connection.
ReadingDep = Annotated[Session, Depends(_reading, scope="function")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str | None, Query(max_length=400)]
