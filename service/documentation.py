"""/docs: the API's documentation page from vendored files; works offline and under the strict policy."""

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent / "ui" / "static"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>BFC API</title>
<link rel="stylesheet" href="/static/vendor/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/static/vendor/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/static/js/api-docs.js"></script>
</body>
</html>
"""


@router.get("/", response_class=RedirectResponse)
def get_root() -> str:
    """Lead whoever opens the bare address in a browser to the page."""
    return "/docs"


@router.get("/docs", response_class=HTMLResponse)
def get_docs() -> str:
    """Answer the page; the document itself is /openapi.json."""
    return PAGE


@router.get("/openapi.json")
def get_document(request: Request) -> JSONResponse:
    """Answer the document. Building it takes the better part of a second: in a thread, so that nobody else waits."""
    app: FastAPI = request.app
    return JSONResponse(app.openapi())


def install_documentation(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
