"""The commands against the real API without a worker: output, errors in words, exit codes."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bfc_client.command_line.app import app

SMALLEST = Path(__file__).parents[3] / "examples" / "smallest.yaml"


@pytest.fixture
def bfc(api, monkeypatch, tmp_path):
    monkeypatch.setenv("BFC_URL", api)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(app, [str(one) for one in arguments], **options)


def submitted(bfc):
    result = bfc("submit", "-f", SMALLEST)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def test_submit_prints_the_id_alone_and_the_rest_beside_it(bfc):
    result = bfc("submit", "-f", SMALLEST)
    assert len(result.stdout.strip()) == 36
    assert "8 runs accepted" in result.stderr


def test_a_spec_comes_from_standard_input(bfc):
    result = bfc("submit", "-f", "-", "--json", input=SMALLEST.read_text())
    assert json.loads(result.stdout)["runs"]["total"] == 8


def test_a_dry_run_stores_nothing(bfc):
    before = len(json.loads(bfc("ls", "--json", "-n", "1000").stdout))
    plan = json.loads(bfc("submit", "-f", SMALLEST, "--dry-run", "--json").stdout)
    assert plan["cells"] == 8
    words = bfc("submit", "-f", SMALLEST, "--dry-run")
    assert "8 runs in" in words.stdout
    assert "matched_compute_control" in words.stdout
    assert len(json.loads(bfc("ls", "--json", "-n", "1000").stdout)) == before


def test_show_by_id_by_its_beginning_and_by_latest(bfc):
    experiment_id = submitted(bfc)
    for name in (experiment_id, experiment_id[:13], "latest"):
        shown = json.loads(bfc("show", name, "--json").stdout)
        assert shown["experiment"]["id"] == experiment_id
        assert len(shown["runs"]) == 8
    text = bfc("show", experiment_id)
    assert "kernel_ridge polynomial degree 4" in text.stdout
    assert experiment_id in text.stdout


def test_cancel_then_watch_ends_with_the_code_of_a_lost_experiment(bfc):
    experiment_id = submitted(bfc)
    assert bfc("cancel", experiment_id).exit_code == 0
    watched = bfc("watch", experiment_id)
    assert watched.exit_code == 5
    assert watched.stdout.strip().endswith(f"{experiment_id} cancelled")
    assert "8/8 runs finished" in watched.stderr
    lines = bfc("watch", experiment_id, "--json").stdout.splitlines()
    assert json.loads(lines[-1])["status"] == "cancelled"
    refused = bfc("cancel", experiment_id)
    assert refused.exit_code == 4
    assert "cancelled" in refused.stderr


def test_export_writes_every_format(bfc, tmp_path):
    experiment_id = submitted(bfc)
    rows = list(csv.DictReader(io.StringIO(bfc("export", experiment_id).stdout)))
    assert len(rows) == 8
    for suffix, start in (
        ("csv", b"experiment_id"),
        ("parquet", b"PAR1"),
        ("ndjson", b"{"),
        ("svg", b"<svg"),
    ):
        written = bfc("export", experiment_id, "-o", tmp_path / f"out.{suffix}", "--json")
        assert json.loads(written.stdout)["format"] == suffix
        content = (tmp_path / f"out.{suffix}").read_bytes()
        assert content.startswith(start) or suffix == "csv"
        assert len(content) == json.loads(written.stdout)["bytes"]
    assert bfc("export", experiment_id, "-o", tmp_path / "out.xls").exit_code == 2
    assert bfc("export", experiment_id, "-o", tmp_path / "no" / "out.csv").exit_code == 1
    assert bfc("export", experiment_id, "--format", "svg", "--chart", "nope").exit_code == 3


def test_what_is_not_there_ends_with_three(bfc):
    unknown = bfc("show", "00000000-0000-4000-8000-000000000000")
    assert unknown.exit_code == 3
    assert "bfc ls" in unknown.stderr
    assert bfc("watch", "zzz").exit_code == 3
    assert unknown.stdout == ""


def test_a_wrong_spec_is_explained_in_words_before_it_is_sent(bfc, tmp_path):
    spec = tmp_path / "bad.yaml"
    spec.write_text(
        SMALLEST.read_text().replace("alphas: [1, 0.1]", "alphas: [1, .nan]").replace("n: 64", "n: -4")
    )
    result = bfc("submit", "-f", spec)
    assert result.exit_code == 2
    assert "nothing was sent" in result.stderr
    assert "at #/target/alphas/1: " in result.stderr
    assert "at #/n: " in result.stderr
    assert result.stdout == ""


def test_what_only_the_server_knows_is_explained_the_same_way(bfc, tmp_path):
    spec = tmp_path / "huge.yaml"
    spec.write_text(
        SMALLEST.read_text().replace("n: 64", "n: 200000").replace("polynomial, degree: 4", "rbf")
    )
    result = bfc("submit", "-f", spec)
    assert result.exit_code == 2
    assert "at #/learners/2" in result.stderr
    assert "Traceback" not in result.stderr


def test_nobody_there_ends_with_six(bfc, monkeypatch):
    monkeypatch.setattr("bfc_client.transport.ATTEMPTS", 1)
    monkeypatch.setattr("bfc_client.transport.delay_before", lambda *_arguments: 0.0)
    monkeypatch.setenv("BFC_URL", "http://127.0.0.1:9")
    result = bfc("ls")
    assert result.exit_code == 6
    assert "does not answer" in result.stderr
    monkeypatch.delenv("BFC_URL")
    nothing = bfc("ls")
    assert nothing.exit_code == 6
    assert "bfc up" in nothing.stderr


def test_nonsense_in_the_settings_or_arguments_is_usage(bfc, monkeypatch):
    assert bfc("frobnicate").exit_code == 2
    assert bfc("ls", "--limit", "0").exit_code == 2
    monkeypatch.setenv("BFC_TIMEOUT", "soon")
    assert bfc("ls").exit_code == 2


def test_doctor_reports_the_server_s_checks(bfc):
    result = bfc("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(result.stdout)}
    assert findings["python"]["state"] == "fine"
    assert "torch" in findings["accelerator"]["fact"]
    assert findings["server: database"]["state"] == "fine"
    assert findings["server: workers"]["state"] == "broken"
    assert findings["server: workers"]["advice"]
    assert result.exit_code == 1
    assert "→ start a worker" in bfc("doctor").stdout


def test_doctor_passes_on_what_a_ready_server_warns_of(bfc, script, monkeypatch):
    check = {"ok": True, "detail": "2 alive", "warning": "workers allow 1 GiB: set the limits alike"}
    script.answer(200, {"status": "ready", "checks": {"workers": check}})
    monkeypatch.setenv("BFC_URL", script.url)
    result = bfc("doctor", "--json")
    [finding] = [each for each in json.loads(result.stdout) if each["subject"] == "server: workers"]
    assert (finding["state"], finding["fact"], finding["advice"]) == ("note", "2 alive", check["warning"])
    assert result.exit_code == 0


def test_doctor_without_a_server_says_how_to_get_one(bfc, monkeypatch):
    monkeypatch.delenv("BFC_URL")
    result = bfc("doctor")
    assert result.exit_code == 0
    assert "bfc up" in result.stdout


def test_an_empty_list_says_how_to_begin(bfc):
    assert json.loads(bfc("ls", "--status", "failed", "--json").stdout) == []
    assert "bfc submit" in bfc("ls", "--status", "failed").stderr


def test_plain_output_has_no_colour(bfc):
    submitted(bfc)
    assert "\x1b" not in bfc("ls").stdout


def test_reproduce_lists_the_presets_and_refuses_an_unknown_one(bfc):
    listed = bfc("reproduce")
    assert "bfc-alpha-squared: " in listed.stdout
    assert json.loads(bfc("reproduce", "--json").stdout)[0]["expectations"]
    assert bfc("reproduce", "nope").exit_code == 3


def test_complexity_of_unfinished_runs_is_empty_and_says_so(bfc):
    shown = bfc("complexity", submitted(bfc))
    assert shown.exit_code == 0
    assert "no result" in shown.stderr


def test_a_folder_that_is_none_is_said_in_words(bfc, tmp_path):
    (tmp_path / "taken").touch()
    for command in (("up", "--port", "0", "--data-dir", "taken"), ("demo", "--output", "taken")):
        result = bfc(*command)
        assert (result.exit_code, result.stderr) == (1, "bfc: taken: File exists\n")


def test_an_empty_name_is_no_experiment(bfc):
    experiment_id = submitted(bfc)
    refused = bfc("cancel", "")
    assert (refused.exit_code, "is empty" in refused.stderr) == (2, True)
    assert json.loads(bfc("show", experiment_id, "--json").stdout)["experiment"]["status"] == "queued"


def test_a_search_that_was_left_is_found_again_by_its_id(bfc, tmp_path, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    spec = tmp_path / "search.yaml"
    spec.write_text("{name: n*, target: {kind: hierarchical_quadratic}, learners: [{kind: joint}], dim: [9]}")
    with monkeypatch.context() as patch:
        patch.setattr("bfc_client.complexity_search.time.sleep", interrupted)
        left = bfc("search", "-f", spec)
    assert left.exit_code == 130
    search_id = left.stderr.split()[1]
    assert f"the work goes on: `bfc search {search_id}`" in left.stderr
    assert bfc("search", search_id, "--resume").exit_code == 4, "nothing has paused it"
    ended = bfc("search", search_id, "--cancel", "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["status"]) == (0, "cancelled")
    found = bfc("search", search_id)
    assert (found.exit_code, "cancelled: round 1" in found.stdout) == (5, True)
    assert bfc("search", "00000000-0000-4000-8000-000000000000").exit_code == 3
    for wrong in ((), (search_id, "-f", spec), ("-f", spec, "--cancel"), (search_id, "--resume", "--cancel")):
        assert bfc("search", *wrong).exit_code == 2
