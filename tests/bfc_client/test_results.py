import importlib.util

import pytest

from bfc_client.errors import MissingPackage
from bfc_client.results import ROWS_SHOWN, Results

ROWS = [{"label": "a", "nmse": 0.5, "seed": 0}, {"label": "<i>", "nmse": None, "seed": 1}]


def test_a_table_of_arrow_keeps_names_and_nulls():
    table = Results(ROWS).to_arrow()
    assert table.column_names == ["label", "nmse", "seed"]
    assert table["nmse"].to_pylist() == [0.5, None]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_frame_or_the_name_of_the_missing_package(package):
    results = Results(ROWS)
    if importlib.util.find_spec(package) is None:
        with pytest.raises(MissingPackage, match=f"pip install {package}"):
            getattr(results, f"to_{package}")()
    else:
        assert len(getattr(results, f"to_{package}")()) == 2


def test_rows_behave_as_a_sequence():
    results = Results(ROWS)
    assert results[1]["seed"] == 1
    assert len(results[:1]) == 1
    assert list(results) == ROWS


def test_the_notebook_shows_escaped_rows_and_says_how_many_are_left():
    html = Results(ROWS * ROWS_SHOWN)._repr_html_()
    assert "<i>" not in html
    assert f"and {ROWS_SHOWN} more rows" in html
