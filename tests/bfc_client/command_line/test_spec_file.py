from pathlib import Path

import pytest

from bfc_client.command_line.app import FLAGSHIP
from bfc_client.command_line.output import CommandRefused, ExitCode
from bfc_client.command_line.spec_file import LARGEST_FILE_BYTES, read_spec
from bfc_client.errors import InvalidSpec
from bfc_core.specs import ComplexitySpec, ExperimentSpec

EXAMPLES = Path(__file__).parents[3] / "examples"
SMALLEST = (EXAMPLES / "smallest.yaml").read_text()


def written(folder, content, name="spec.yaml"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_example_is_a_spec():
    assert read_spec(EXAMPLES / "complexity.yaml", ComplexitySpec).grid()
    for path in [FLAGSHIP, EXAMPLES / "smallest.yaml"]:
        assert read_spec(path, ExperimentSpec).cell_count() > 0


def test_the_flagship_is_the_experiment_of_the_issue():
    spec = read_spec(FLAGSHIP, ExperimentSpec)
    assert (spec.dim, spec.n, spec.seeds) == ((20,), (4000,), (0, 1, 2))
    kinds = [learner.kind for learner in spec.all_learners()]
    assert kinds.count("kernel_ridge") == 4
    assert "matched_compute_control" in kinds
    assert spec.target.alphas == (1.0, 0.1)


def test_numbers_are_those_of_json(tmp_path):
    spec = read_spec(
        written(tmp_path, SMALLEST.replace("alphas: [1, 0.1]", "alphas: [1, 1e-3]")), ExperimentSpec
    )
    assert spec.target.alphas == (1.0, 1e-3)


def test_json_is_read_by_its_ending(tmp_path):
    text = read_spec(EXAMPLES / "smallest.yaml", ExperimentSpec).canonical_json()
    assert read_spec(written(tmp_path, text, "spec.json"), ExperimentSpec).name == "smallest"


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("a: [1", "s.yaml", "line 1"),
        ('{"a": 1', "s.json", "line 1, column 8"),
        ("a: 1\na: 2\n", "s.yaml", "stands twice"),
        (b"\xff\xfe\x00", "s.yaml", "UTF-8"),
        (b"#" * (LARGEST_FILE_BYTES + 1), "s.yaml", "1 MiB"),
        ("!!python/object/apply:os.system ['true']", "s.yaml", "not YAML"),
        ("\x00", "s.yaml", "not a document"),
        ("[" * 100_000, "s.json", "not a document"),
    ],
)
def test_what_is_no_document_is_refused_in_words(tmp_path, content, name, words):
    with pytest.raises(CommandRefused, match=words) as caught:
        read_spec(written(tmp_path, content, name), ExperimentSpec)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("content", ["", "- 1\n", "just text", "3"])
def test_a_document_that_is_no_spec_is_refused(tmp_path, content):
    with pytest.raises(InvalidSpec):
        read_spec(written(tmp_path, content), ExperimentSpec)


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "no.yaml"):
        with pytest.raises(CommandRefused, match="cannot read"):
            read_spec(path, ExperimentSpec)
