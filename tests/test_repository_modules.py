"""What every module says of itself is true: `__all__` names what it has for others."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import pytest
from repository import SERVICES, Module, modules

SOURCES = [module for module in modules() if not module.is_test]
WITHOUT = ("__main__.py", "__init__.py")  # one runs, the other may be empty


def exported(tree: ast.Module) -> list[str] | None:
    """The names of `__all__`, None if there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def defined(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module make: functions, classes, and what is assigned."""
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from defined([*node.body, *node.orelse])


def imported(statements: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module bring in."""
    for node in statements:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)


def mistakes(tree: ast.Module, *, is_package: bool) -> Iterator[str]:
    """What is wrong with a module's `__all__`, as lines for a person."""
    names = exported(tree)
    if names is None:
        yield "has no __all__"
        return
    made = set(defined(tree.body))
    known = made | set(imported(tree.body)) if is_package else made
    yield from (f"__all__ names {name}, which is not defined here" for name in names if name not in known)
    yield from (f"__all__ names {name} twice" for name in sorted(set(names)) if names.count(name) > 1)


def has_reason_for_none(module: Module) -> bool:
    return module.path.name in WITHOUT and exported(module.tree) is None


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_all_names_what_the_module_has_for_others(module: Module) -> None:
    if has_reason_for_none(module):
        return
    assert list(mistakes(module.tree, is_package=module.path.name == "__init__.py")) == []


@pytest.mark.parametrize("module", SOURCES, ids=str)
def test_a_module_opens_with_a_docstring_that_says_why_it_is_there(module: Module) -> None:
    assert ast.get_docstring(module.tree)


def test_every_function_belongs_to_something() -> None:
    assert [str(module) for module in SOURCES if module.path.stem in ("utils", "util", "helpers", "misc")] == []


def test_modules_are_found() -> None:
    assert {module.package for module in SOURCES} > SERVICES


WRONG = {
    "nothing said": "def a(): ...",
    "not there": "__all__ = ['a']",
    "brought in, and no package": "from x import a\n__all__ = ['a']",
    "twice": "a = 1\n__all__ = ['a', 'a']",
}
RIGHT = {
    "function": "__all__ = ['a']\ndef a(): ...",
    "class": "__all__ = ['A']\nclass A: ...",
    "annotated": "a: int = 1\n__all__ = ['a']",
    "conditional": "if True:\n    a = 1\nelse:\n    a = 2\n__all__ = ['a']",
}


@pytest.mark.parametrize("source", WRONG.values(), ids=WRONG)
def test_an_untrue_all_is_found(source: str) -> None:
    assert len(list(mistakes(ast.parse(source), is_package=False))) == 1


@pytest.mark.parametrize("source", RIGHT.values(), ids=RIGHT)
def test_a_true_all_is_not_complained_of(source: str) -> None:
    assert list(mistakes(ast.parse(source), is_package=False)) == []


def test_a_package_may_hand_on_what_its_modules_have() -> None:
    assert list(mistakes(ast.parse("from x import a\n__all__ = ['a']"), is_package=True)) == []
