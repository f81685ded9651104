import io

from bfc_client.answers import ExperimentState
from bfc_client.progress import ProgressDisplay


def state(status, **runs):
    return ExperimentState.model_validate(
        {
            "id": "0d9a4a52-6b5c-4a35-8e7b-b1f0a6a1c9aa",
            "name": "[bold]x",
            "status": status,
            "spec_hash": "h",
            "created_at": "2026-01-01T00:00:00Z",
            "runs": {"total": 2, **runs},
            "progress": 0.5,
        }
    )


def test_away_from_a_terminal_there_is_one_line_for_each_change():
    stream = io.StringIO()
    with ProgressDisplay(stream=stream) as display:
        display.update(state("queued", queued=2))
        display.update(state("running", running=1, queued=1))
        display.update(state("running", running=1, queued=1))
        display.update(state("succeeded", succeeded=2))
    assert stream.getvalue().splitlines() == [
        "0d9a4a52 queued: 0/2 runs finished (2 queued), 50 %",
        "0d9a4a52 running: 0/2 runs finished (1 running, 1 queued), 50 %",
        "0d9a4a52 succeeded: 2/2 runs finished (2 succeeded), 50 %",
    ]


def test_silence_where_none_was_asked_for():
    stream = io.StringIO()
    with ProgressDisplay(enabled=False, stream=stream) as display:
        display.update(state("queued"))
    assert stream.getvalue() == ""
