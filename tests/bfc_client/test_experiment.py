import json

import pytest

from bfc_client.client import Client
from bfc_client.errors import ServerUnreachable, WaitTimedOut

ID = "0d9a4a52-6b5c-4a35-8e7b-b1f0a6a1c9aa"


def state(status, **runs):
    return {
        "id": ID,
        "name": "x <b>",
        "status": status,
        "spec_hash": "h",
        "created_at": "2026-01-01T00:00:00Z",
        "runs": {"total": 2, **runs},
        "progress": 0.5,
        "a_field_of_a_newer_server": 1,
    }


def stream(*events):
    return "".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for number, name, data in events
    ).encode()


def test_waiting_follows_changes_by_etag_until_the_end(script):
    script.answer(200, state("queued", queued=2))
    script.answer(200, state("running", running=2), ETag='"a"')
    script.answer(304, ETag='"a"')
    script.answer(200, state("succeeded", succeeded=2), ETag='"b"')
    experiment = Client(script.transport()).experiments.get(ID)
    seen = []
    experiment.wait(on_change=lambda now: seen.append(now.status.value))
    assert seen == ["running", "succeeded"]
    assert experiment.status.is_terminal
    first, second, third = script.asked[1:]
    assert "wait" not in first.path
    assert "wait=20" in second.path
    assert second.headers["If-None-Match"] == third.headers["If-None-Match"] == '"a"'


def test_waiting_ends_in_time_and_says_where_it_stands(script):
    script.answer(200, state("running", running=2), ETag='"a"')
    experiment = Client(script.transport()).experiments.get(ID)
    with pytest.raises(WaitTimedOut, match=r"still running after 0\.3 s"):
        experiment.wait(timeout=0.3)


def test_fields_of_a_newer_server_are_kept(script):
    script.answer(200, state("queued"))
    experiment = Client(script.transport()).experiments.get(ID)
    assert experiment.state.model_dump()["a_field_of_a_newer_server"] == 1


def test_a_name_is_escaped_in_a_notebook(script):
    script.answer(200, state("queued"))
    assert "<b>" not in Client(script.transport()).experiments.get(ID)._repr_html_()


def test_events_go_on_after_the_last_one_when_the_line_breaks(script, monkeypatch):
    monkeypatch.setattr("bfc_client.experiment.delay_before", lambda _attempt: 0.0)
    script.answer(200, state("running"))
    script.answer(
        200, stream((4, "snapshot", {"a": 1}), (5, "run.state", {})), Content_Type="text/event-stream"
    )
    script.drop()
    script.answer(200, stream((6, "run.state", {}), (7, "end", {})), Content_Type="text/event-stream")
    events = list(Client(script.transport()).experiments.get(ID).events())
    assert [event.id for event in events] == [4, 5, 6, 7]
    assert events[0].data == {"a": 1}
    assert events[-1].name == "end"
    assert [asked.headers.get("Last-Event-ID") for asked in script.asked[1:]] == [None, "5", "5"]


def test_events_give_up_on_a_server_that_stays_away(script, monkeypatch):
    monkeypatch.setattr("bfc_client.experiment.delay_before", lambda _attempt: 0.0)
    script.answer(200, state("running"))
    script.drop()
    experiment = Client(script.transport()).experiments.get(ID)
    with pytest.raises(ServerUnreachable):
        list(experiment.events())


def test_results_and_charts_are_fetched_by_name(script, tmp_path):
    script.answer(200, state("succeeded"))
    script.answer(200, b'{"label":"a","nmse":1.5}\n{"label":"b","nmse":null,"seed":2}\n')
    script.answer(200, b"<svg/>", Content_Type="image/svg+xml")
    script.answer(200, {"mark": "line"})
    experiment = Client(script.transport()).experiments.get(ID)
    results = experiment.results()
    assert [row["label"] for row in results] == ["a", "b"]
    assert results.columns() == ["label", "nmse", "seed"]
    assert experiment.chart("feature-error").save(tmp_path / "f.svg").read_text() == "<svg/>"
    assert json.loads(experiment.chart().save(tmp_path / "f.json").read_text()) == {"mark": "line"}
    assert [asked.path.rsplit("/", 1)[1] for asked in script.asked[1:]] == [
        "results.ndjson",
        "feature-error.svg",
        "comparison.vl.json",
    ]
    with pytest.raises(ValueError, match=r"as \.svg or \.json"):
        experiment.chart().save(tmp_path / "f.png")
