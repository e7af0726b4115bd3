"""The tables of promises in tests/README.md follow from the marks of the tests."""

import pytest

from tests import promises


def test_tables_of_promises_are_those_of_the_marks():
    assert promises.README.read_text(encoding="utf-8") == promises.readme(), "run: python -m tests.promises"


def test_promise_of_unknown_section_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "test_a.py").write_text('pytestmark = pytest.mark.promise("inputs", "Reads all.")\n')
    monkeypatch.setattr(promises, "TESTS", tmp_path)
    with pytest.raises(ValueError, match=r"test_a\.py: no section 'inputs'; write one of input,"):
        promises.promises()


def test_promise_is_listed_with_module_or_test_that_holds_it(tmp_path, monkeypatch):
    (tmp_path / "test_a.py").write_text('pytestmark = [pytest.mark.promise("input", "Reads all."), pytest.mark.slow]\n')
    (tmp_path / "test_b.py").write_text('@pytest.mark.promise("input", "Reads all.")\ndef test_x(): ...\n')
    monkeypatch.setattr(promises, "TESTS", tmp_path)
    assert promises.promises()["input"] == {"Reads all.": ["test_a.py", "test_b.py::test_x"]}
    assert "| Reads all. | [test_a.py](test_a.py), [test_b.py](test_b.py) `test_x` |" in promises.tables()
