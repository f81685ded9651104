"""Users' own samples: files that are refused, files that are learned from, and what a spec says of them."""

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bfc_core import data_sets
from bfc_core.__main__ import main
from bfc_core.errors import DataSetUnusable
from bfc_core.evaluation import pose
from bfc_core.run import execute_pack
from bfc_core.specs import Array, ExperimentSpec, Outcome, RunSpec

ROWS, COLUMNS = 200, 5
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(3.0, 2.0, size=(ROWS, COLUMNS))
Y = X @ np.arange(1.0, COLUMNS + 1) + 7
CLASSES = (X[:, 0] > 3).astype(np.int32) + 2 * (X[:, 1] > 3)


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def added(tmp_path: Path, **changes: object) -> Array:
    file = saved(tmp_path / "mine.npz", **({"x": X, "y": Y} | changes))
    return data_sets.add(file, tmp_path / "sets")


def run_of(target: Array, learner: dict[str, object], **changes: object) -> RunSpec:
    body: dict[str, object] = {"target": target, "inputs": {"kind": "data_set"}, "learner": learner}
    return RunSpec.model_validate(body | {"n": 100, "dim": target.columns, "seed": 0} | changes)


def test_a_file_is_kept_under_its_hash_and_described(tmp_path: Path) -> None:
    target = added(tmp_path)
    assert (target.rows, target.columns, target.classes, target.test_rows) == (ROWS, COLUMNS, None, 40)
    kept = tmp_path / "sets" / f"{target.sha256}.npz"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == target.sha256
    assert [path.name for path in (tmp_path / "sets").iterdir()] == [kept.name]


def test_numbers_are_learned_through_the_door(tmp_path: Path) -> None:
    target = added(tmp_path)
    (report,) = execute_pack([run_of(target, {"kind": "linear"})], data_sets=tmp_path / "sets")
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.nmse is not None
    assert report.metrics.nmse < 1e-9


@pytest.mark.parametrize("kind", ["nearest_neighbours", "recursive_feature_machine", "gradient_boosting"])
def test_learners_of_one_number_take_them_too(kind: str, tmp_path: Path) -> None:
    learner = {"kind": kind} | ({"rounds": 1} if kind == "recursive_feature_machine" else {})
    (report,) = execute_pack([run_of(added(tmp_path), learner)], data_sets=tmp_path / "sets")
    assert report.outcome is Outcome.SUCCEEDED
    assert report.metrics is not None
    assert report.metrics.nmse is not None
    assert report.metrics.nmse < 1


def test_classes_are_learned_as_one_hot_vectors(tmp_path: Path) -> None:
    target = added(tmp_path, y=CLASSES)
    assert target.classes == 4
    learner = {"kind": "kernel_ridge", "kernel": {"kind": "rbf"}}
    (report,) = execute_pack([run_of(target, learner)], data_sets=tmp_path / "sets")
    assert report.metrics is not None
    assert report.metrics.accuracy is not None
    assert report.metrics.accuracy > 0.6
    with pytest.raises(ValidationError, match="array has classes"):
        run_of(target, {"kind": "nearest_neighbours"})


def test_the_split_is_nested_apart_and_of_the_seed(tmp_path: Path) -> None:
    target, folder = added(tmp_path), tmp_path / "sets"
    whole = pose(run_of(target, {"kind": "linear"}, n=160), folder)
    few = pose(run_of(target, {"kind": "linear"}, n=20), folder)
    other = pose(run_of(target, {"kind": "linear"}, n=20, seed=1), folder)
    assert torch.equal(whole.x[:20], few.x)
    assert torch.equal(whole.test_x, few.test_x)
    assert not torch.equal(few.x, other.x)
    rows = torch.cat([whole.x, whole.test_x])
    assert len(rows) == ROWS == len(rows.unique(dim=0))
    torch.testing.assert_close(rows.sum(0), torch.from_numpy(X.sum(0)))


@pytest.mark.parametrize("scaling", ["none", "all", "columns"])
def test_scaling_knows_nothing_of_the_rows_for_testing(scaling: str, tmp_path: Path) -> None:
    x = np.concatenate([X, np.full((ROWS, 1), 2.0)], axis=1)  # one column varies nowhere
    target = added(tmp_path, x=x).model_copy(update={"scaling": scaling})
    problem = pose(run_of(target, {"kind": "linear"}, n=160), tmp_path / "sets")
    if scaling == "columns":
        torch.testing.assert_close(problem.x.mean(0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-9)
        expected = torch.tensor([1.0] * 5 + [0.0], dtype=torch.float64)
        torch.testing.assert_close(problem.x.square().mean(0), expected)
        assert float(problem.test_x[:, :5].mean(0).abs().min()) > 1e-6
    elif scaling == "all":
        assert float(problem.x.mean()) == pytest.approx(0, abs=1e-9)
        assert float(problem.x.square().mean()) == pytest.approx(1)
    else:
        assert float(problem.x[:, 5].max()) == 2.0


def test_images_keep_their_shape_in_the_file(tmp_path: Path) -> None:
    target = added(tmp_path, x=np.repeat(X, 4, axis=1).reshape(ROWS, 4, 5, 1).astype(np.float32), y=CLASSES)
    assert target.columns == 20
    kernel = {"kind": "convolutional", "image": [4, 5, 1], "depth": 1}
    (report,) = execute_pack(
        [run_of(target, {"kind": "kernel_ridge", "kernel": kernel}, n=40)], data_sets=tmp_path / "sets"
    )
    assert report.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": X}, "no array y"),
        ({"y": Y}, "no array x"),
        ({"x": X[:, 0], "y": Y}, "a row a sample"),
        ({"x": X, "y": Y[:10]}, "one label for each of the 200 rows"),
        ({"x": X, "y": Y[:, None]}, "one label for each of the 200 rows"),
        ({"x": X.astype(complex), "y": Y}, "must hold numbers"),
        ({"x": X, "y": np.array(["a"] * ROWS)}, "must hold numbers"),
        ({"x": X, "y": np.array([{}] * ROWS, dtype=object)}, "Python objects, which are never read"),
        ({"x": np.where(X > 5, np.nan, X), "y": Y}, "not finite"),
        ({"x": X, "y": np.where(Y > 60, np.inf, Y)}, "not finite"),
        ({"x": X, "y": CLASSES - 1}, "no class numbers"),
        ({"x": X, "y": np.zeros(ROWS, dtype=int)}, "no class numbers"),
        ({"x": X[:0], "y": Y[:0]}, "a row a sample"),
        ({"x": X[:20], "y": Y[:20]}, "greater than or equal to 24"),
    ],
)
def test_files_that_hold_no_samples_are_refused_in_words(
    arrays: dict[str, object], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(tmp_path / "bad.npz", **arrays)
    assert data_sets.main([str(file), "--folder", str(tmp_path / "sets")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "sets").exists()


def test_a_pickle_in_an_array_is_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(tmp_path / "sprung"), "w")  # type: ignore[return-value]

    file = saved(tmp_path / "trap.npz", x=np.array([Trap()] * 30, dtype=object), y=np.zeros(30))
    with pytest.raises(DataSetUnusable, match="never read"):
        data_sets.add(file, tmp_path / "sets")
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_archives_or_damaged_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    for content in (
        b"",
        b"hello",
        b"\x93NUMPY" + bytes(200),
        _archive(b"no header"),
        _archive(_huge_header()),
    ):
        file.write_bytes(content)
        with pytest.raises(DataSetUnusable):
            data_sets.add(file, tmp_path / "sets")
    np.savez_compressed(file, x=X, y=Y)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataSetUnusable):
        data_sets.add(file, tmp_path / "sets")


def test_declared_sizes_are_believed_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sets, "LIMIT_BYTES", X.nbytes - 1)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    file = tmp_path / "large.npz"
    np.savez_compressed(file, x=np.zeros_like(X), y=np.zeros(ROWS))
    assert file.stat().st_size < X.nbytes / 4
    with pytest.raises(DataSetUnusable, match="larger than"):
        data_sets.add(file, tmp_path / "sets")


def test_another_content_under_the_name_is_refused(tmp_path: Path) -> None:
    target, folder = added(tmp_path), tmp_path / "sets"
    run = run_of(target, {"kind": "linear"})
    (tmp_path / "sets" / f"{target.sha256}.npz").write_bytes(
        saved(tmp_path / "o.npz", x=X, y=-Y).read_bytes()
    )
    (report,) = execute_pack([run], data_sets=folder)
    assert report.outcome is Outcome.FAILED
    assert "does not have the SHA-256" in str(report.message)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rows": 201}, "has 200 rows of 5 numbers"),
        ({"columns": 4}, "has 200 rows of 5 numbers"),
        ({"classes": 3}, "no class numbers"),
        ({"sha256": "0" * 64}, "there is no file"),
    ],
)
def test_a_target_that_is_not_what_the_file_holds_fails_in_words(
    changes: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    target = added(tmp_path).model_copy(update=changes)
    (report,) = execute_pack([run_of(target, {"kind": "linear"})], data_sets=tmp_path / "sets")
    assert report.outcome is Outcome.FAILED
    assert complaint in str(report.message)
    (report,) = execute_pack([run_of(target, {"kind": "linear"})])
    assert "folder of data sets" in str(report.message)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"n": 161}, "160 training rows"),
        ({"dim": 4}, "have dim 5"),
        ({"inputs": {"kind": "gaussian"}}, "belong together"),
        ({"learner": {"kind": "algorithm_1"}}, "has none"),
        ({"learner": {"kind": "oracle"}}, "nobody knows"),
    ],
)
def test_what_cannot_be_run_on_a_file_is_refused(changes: dict[str, object], complaint: str) -> None:
    target = Array(kind="array", sha256="0" * 64, rows=ROWS, columns=COLUMNS, test_rows=40)
    body = {"target": target, "inputs": {"kind": "data_set"}, "learner": {"kind": "linear"}, "n": 100}
    with pytest.raises(ValidationError, match=complaint):
        RunSpec.model_validate(body | {"dim": 5, "seed": 0} | changes)
    with pytest.raises(ValidationError, match="at least 8 must be left"):
        Array(kind="array", sha256="0" * 64, rows=40, columns=1, test_rows=33)


def test_the_command_line_adds_a_file_and_runs_on_it(tmp_path: Path) -> None:
    file = saved(tmp_path / "mine.npz", x=X, y=Y)
    answer = subprocess.run(
        [sys.executable, "-m", "bfc_core.data_sets", str(file), "--folder", str(tmp_path / "sets")],
        capture_output=True,
        text=True,
        check=True,
    )
    spec = {
        "name": "mine",
        "target": json.loads(answer.stdout),
        "inputs": {"kind": "data_set"},
        "learners": [{"kind": "linear"}, {"kind": "oracle", "knows": "constant"}],
        "n": 50,
        "dim": 5,
    }
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    ran = subprocess.run(
        [sys.executable, "-m", "bfc_core", str(path), "--data-sets", str(tmp_path / "sets")],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(ran.stdout)["runs"]
    assert [row["status"] for row in rows] == ["succeeded"] * 6
    assert ExperimentSpec.model_validate(spec).target.sha256 == rows[0]["target"]["sha256"]


def test_the_command_line_refuses_a_missing_file_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Array(kind="array", sha256="0" * 64, rows=ROWS, columns=COLUMNS, test_rows=40)
    spec = {
        "name": "missing",
        "target": target.model_dump(mode="json"),
        "inputs": {"kind": "data_set"},
        "learners": [{"kind": "linear"}],
        "n": 50,
        "dim": 5,
    }
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert main([str(path), "--data-sets", str(tmp_path)]) == 2
    assert "#/target/sha256: there is no file" in capsys.readouterr().err


def _archive(array: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", array)
        archive.writestr("y.npy", array)
    return buffer.getvalue()


def _huge_header() -> bytes:
    """An array that says that it has 10¹² rows and holds none."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2)}
    )
    return buffer.getvalue()
