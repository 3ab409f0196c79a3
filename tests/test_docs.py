"""The pages people read first: their commands are the program's, their files are there."""

import re
import shlex
from pathlib import Path

import pytest

from worldmodel.__main__ import make_parser as make_job_parser
from worldmodel.config import read_toml
from worldmodel.game.flags import make_parser as make_play_parser
from worldmodel.recipe.recipe_file import read_recipe

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PLAY, JOB = ["play.py"], ["worldmodel"]


def commands(page: Path) -> list[list[str]]:
    """What a reader would type, as words; blocks that name a language hold none."""
    found = []
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not language:
            lines = block.replace("\\\n", " ").replace("&&", "\n").splitlines()
            found += [shlex.split(line, comments=True) for line in lines]
    return found


def arguments(words: list[str], program: list[str]) -> list[str] | None:
    """What follows the program's name, if the command runs it."""
    for at, word in enumerate(words[:6]):
        if word in program:
            return words[at + 1 :]
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_is_one_that_the_program_takes(page: Path) -> None:
    for words in commands(page):
        parser = None
        if (given := arguments(words, PLAY)) is not None:
            parser = make_play_parser()
        elif (given := arguments(words, JOB)) is not None:
            parser = make_job_parser()
        if parser is not None and given is not None:
            try:
                parser.parse_args(given)
            except SystemExit:
                pytest.fail(f"{page.name}: the program does not take: {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_config_and_link_on_a_page_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    configs = set(re.findall(r"\bconfigs/[\w./-]+\.toml", text))
    assert [name for name in sorted(configs) if not (ROOT / name).is_file()] == []
    links = [link for link in LINK.findall(text) if "://" not in link]
    names = {(page.parent / link).resolve() for link in links}
    assert [str(name) for name in sorted(names) if not name.exists()] == []


def test_the_readme_is_read_in_a_minute() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    assert len(text.split()) <= 900


def test_the_pages_are_read_in_an_hour() -> None:
    words = [word for page in PAGES for word in page.read_text(encoding="utf-8").split()]
    assert sum(bool(re.search(r"\w", word)) for word in words) <= 16_000


def test_the_glossary_has_at_most_forty_words() -> None:
    rows = re.findall(r"^\| (?!word|-)", (ROOT / "docs/glossary.md").read_text("utf-8"), re.M)
    assert 20 <= len(rows) <= 40


def test_every_page_is_in_the_sites_navigation() -> None:
    nav = (ROOT / "docs/site/mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in PAGES[1:]:
        assert f" {page.relative_to(ROOT / 'docs').as_posix()}\n" in nav, page


def test_the_recipe_of_the_tutorial_names_its_buttons_for_people() -> None:
    table = read_toml(ROOT / "configs/gym/recipe.toml")
    recipe = read_recipe(ROOT / "configs/gym/recipe.toml")
    assert recipe.played_stage == "student"
    assert len(table["actions"]["names"]) == len(table["actions"]["buttons"]) == 2
