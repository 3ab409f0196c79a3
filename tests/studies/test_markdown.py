from pathlib import Path

import pytest

from studies.markdown import write_between
from worldmodel.config import ConfigError

MARKS = ("<!-- begin -->", "<!-- end -->")


def test_a_page_is_begun_and_what_people_wrote_around_the_marks_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_between(page, "Title", *MARKS, "one")
    text = page.read_text()
    assert text.startswith("# Title")
    page.write_text(f"Mine.\n\n{text}\nAlso mine.\n")
    write_between(page, "Other", *MARKS, "two")
    found = page.read_text()
    assert found.startswith("Mine.")
    assert found.endswith("Also mine.\n")
    assert "two" in found
    assert "one" not in found


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Mine alone.")
    with pytest.raises(ConfigError, match="put these back"):
        write_between(page, "Title", *MARKS, "one")
    assert page.read_text() == "Mine alone."


def test_a_page_that_is_no_text_is_named_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_bytes(b"\xff\x81")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        write_between(page, "Title", *MARKS, "one")
    assert page.read_bytes() == b"\xff\x81"
