"""A letter in a shape means one thing in the whole package; a docstring says what a thing is."""

import ast
import re
from pathlib import Path

import worldmodel

PACKAGE = Path(worldmodel.__file__).parent
LETTERS = re.compile(r"(?:^|\s{2,}|: |, )((?:[a-z] )+)(?=[a-z]{2})", re.MULTILINE)


def letters(text: str) -> set[str]:
    return {letter for found in LETTERS.findall(text) for letter in found.split()}


def legend() -> set[str]:
    assert worldmodel.__doc__
    return letters(worldmodel.__doc__.split("package:")[1].split("What a module")[0])


def test_the_legend_has_the_letters_of_attention_and_of_pictures() -> None:
    assert legend() == set("bfgchwdptunelkmvz")


def test_no_module_gives_a_letter_of_the_legend_another_meaning() -> None:
    own = {}
    for path in PACKAGE.rglob("*.py"):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert "\nLetters: " not in doc, f"{path}: letters of shapes stand in {PACKAGE}/__init__.py"
        said = re.search(r"Letters? of its own:.*", doc, re.DOTALL)
        if said and path.parent != PACKAGE:
            own[path.name] = letters(said[0])
            assert not own[path.name] & legend(), path
    assert own["floor_plan.py"] == {"s", "o", "r", "a"}


def test_a_docstring_begins_with_what_the_thing_is() -> None:
    """`The time of the next frame`, not `Of the next frame`: it is read away from the name."""
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            doc = ast.get_docstring(node) if isinstance(node, kinds) else None
            assert not (doc or "").startswith("Of "), f"{path}: {doc}"


def test_who_gets_a_tensor_is_told_its_shape() -> None:
    """Letters of the legend, an arrow between two shapes, or a word; losses are scalars."""
    letters_or = r"->|\.\.\.|\b[b-z] [a-z0-9(]|\b[b-z0-9][.:,;)]|\b[b-z]$|shape|scalar|vector"
    shape = re.compile(letters_or, re.MULTILINE)
    silent = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for node in [*tree.body, *(one for kind in classes for one in kind.body)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            gives = ast.unparse(node.returns) if node.returns else ""
            doc = ast.get_docstring(node)
            if gives == "Tensor" and doc and "loss" not in node.name and not shape.search(doc):
                silent.append(f"{path}:{node.lineno} {node.name}: {doc}")
    assert not silent, "\n".join(silent)
