"""A check of our own for schemathesis: every refusal is a whole problem, and tells nothing about the inside."""

import json
import re

import schemathesis

INSIDE = re.compile(
    r"Traceback|\.py\b|site-packages|/home/|/tmp/|/srv/|/usr/|sqlalchemy|psycopg|sqlite3\.", re.IGNORECASE
)
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


@schemathesis.check
def refusals_are_problems(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Problem+json of one shape; 422 names its places; nothing of what was sent is needed to explain a leak."""
    if response.status_code < 400 or case.method == "HEAD" or case.path == "/readyz":
        return
    problem = response.json()
    assert response.headers["content-type"] == ["application/problem+json"], response.headers["content-type"]
    assert set(problem) >= MEMBERS, f"members are missing: {MEMBERS - set(problem)}"
    assert problem["status"] == response.status_code
    assert [problem["request_id"]] == response.headers["x-request-id"]
    for error in problem["errors"]:
        assert error["pointer"].startswith("#"), error
    # What the client sent may come back; only what it did not send can be a leak.
    sent = json.dumps([str(case.path_parameters), str(case.query), str(case.headers), str(case.body)])
    leaked = {found.group() for found in INSIDE.finditer(problem["detail"])}
    assert not {word for word in leaked if word not in sent}, f"an error body tells of the inside: {leaked}"
