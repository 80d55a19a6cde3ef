"""Functions are short, little is left untyped, and a public function's docstring names what it raises."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
from repository import Module, modules

SOURCES = [module for module in modules() if not module.is_test]
LONGEST = 60
LONGEST_OF_95_IN_100 = 20
ANY_IN_1000_LINES = 4
# Ends an iteration, a command or a broken assumption: nobody who calls the function handles it.
NEED_NO_WORDS = frozenset({"AssertionError", "BadParameter", "Exit", "NotImplementedError", "StopAsyncIteration"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def lengths(source: str, tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """Length in code lines, first line and name of each function; docstrings, comments and blanks are no code."""
    code = {n for n, line in enumerate(source.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            code.difference_update(_lines(node.body[0]))
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield len(code.intersection(_lines(node))), node.lineno, node.name


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


class Classes:
    """The classes of the code base by name: their bases, and what their docstrings say."""

    def __init__(self, trees: Sequence[ast.Module]) -> None:
        self._nodes: dict[str, list[ast.ClassDef]] = {}
        for node in chain.from_iterable(map(ast.walk, trees)):
            if isinstance(node, ast.ClassDef):
                self._nodes.setdefault(node.name, []).append(node)
        self._ports = [node for node in chain.from_iterable(self._nodes.values()) if "Protocol" in _bases(node)]

    def lineage(self, name: str) -> set[str]:
        """The class and all that it inherits from."""
        bases = chain.from_iterable(_bases(node) for node in self._nodes.get(name, ()))
        return {name}.union(*(self.lineage(base) for base in bases if base != name))

    def docstrings_for(self, owner: ast.ClassDef | None, function: Function) -> str:
        """Of the function and its class, of the classes above, and of the ports that have this method."""
        above = chain.from_iterable(self._nodes.get(name, ()) for name in self.lineage(owner.name)) if owner else ()
        described = [function]
        for node in (*above, *(self._ports if owner else ())):
            methods = [part for part in node.body if isinstance(part, Function) and part.name == function.name]
            described += [node, *methods] if methods or node is owner else []
        return "\n".join(ast.get_docstring(node) or "" for node in described)


def unnamed(tree: ast.Module, classes: Classes) -> Iterator[tuple[int, str]]:
    """Line and words for each error that a public function raises itself and no docstring of it names.

    The name of a base class will do.
    """
    for owner, function in _public(tree):
        for line, error in _raised(function.body):
            words = classes.docstrings_for(owner, function)
            if error not in NEED_NO_WORDS and not any(name in words for name in classes.lineage(error)):
                yield line, f"{owner.name + '.' if owner else ''}{function.name} raises {error}"


def _public(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    for node in tree.body:
        inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for part in inside:
            if isinstance(part, Function) and (part.name.startswith("__") or not part.name.startswith("_")):
                yield (node if isinstance(node, ast.ClassDef) else None), part


def _raised(statements: Sequence[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in statements:
        if isinstance(node, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None and (name := _name(node.exc))[:1].isupper():
            yield node.lineno, name
        yield from _raised(list(ast.iter_child_nodes(node)))


def _bases(node: ast.ClassDef) -> list[str]:
    return [_name(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]


def _name(node: ast.expr) -> str:
    """The last part of a name, also of one that is called; "" for any other expression."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(module: Module) -> str:
    return module.path.read_text(encoding="utf-8")


def test_functions_are_short() -> None:
    measured = [
        (length, f"{module}:{line}: {name}")
        for module in SOURCES
        for length, line, name in lengths(_text(module), module.tree)
    ]
    long = sorted((one for one in measured if one[0] > LONGEST_OF_95_IN_100), reverse=True)
    print(*long, sep="\n")
    assert [place for length, place in long if length > LONGEST] == []
    assert len(long) <= len(measured) // 20


def test_few_values_are_untyped() -> None:
    places = [
        f"{module}:{node.lineno}"
        for module in SOURCES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    print(*places, sep="\n")
    assert len(places) * 1000 <= ANY_IN_1000_LINES * sum(len(_text(module).splitlines()) for module in SOURCES)


def test_a_docstring_names_what_a_public_function_raises() -> None:
    classes = Classes([module.tree for module in SOURCES])
    found = [f"{module}:{line}: {words}" for module in SOURCES for line, words in unnamed(module.tree, classes)]
    assert found == []


def test_the_length_of_a_function_counts_its_code() -> None:
    source = '''
def outer(
    a: int,  # 2
):
    """Say.

    More.
    """

    # A comment.
    def inner():
        """Nothing else."""
        return (
            a
        )
    return inner
'''
    assert sorted(lengths(source, ast.parse(source))) == [(4, 11, "inner"), (8, 2, "outer")]


METHOD = '    def f(self):\n        """Raises Bad."""'
BASE = "class Bad(ValueError):\n    pass\n"
UNNAMED = {
    "no docstring": "def f():\n    raise Bad('x')",
    "another error": 'def f():\n    """Raises KeyError."""\n    raise Bad',
    "of a module": 'async def f():\n    """Do."""\n    with a:\n        raise errors.Bad(1) from None',
    "a method": 'class A:\n    """Is."""\n    def f(self):\n        raise Bad',
    "when made": 'class A:\n    """Is."""\n    def __init__(self):\n        raise Bad',
}
NAMED = {
    "itself": 'def f():\n    """Raises Bad."""\n    raise Bad',
    "by its base": 'def f():\n    """Raises ValueError."""\n    raise Bad',
    "by the class": 'class A:\n    """Raises Bad."""\n    def f(self):\n        raise Bad',
    "by the class above": f"class A:\n{METHOD}\nclass B(A):\n    def f(self):\n        raise Bad",
    "by the port": f"class A(Protocol):\n{METHOD}\nclass B:\n    def f(self):\n        raise Bad",
    "private": "def _f():\n    raise Bad",
    "in a private class": "class _A:\n    def f(self):\n        raise Bad",
    "in a function inside": "def f():\n    def g():\n        raise Bad",
    "an error that was caught": "def f():\n    raise error",
    "a broken assumption": "def f():\n    raise AssertionError('x')",
}


@pytest.mark.parametrize("source", UNNAMED.values(), ids=UNNAMED)
def test_an_error_without_words_is_found(source: str) -> None:
    tree = ast.parse(BASE + source)
    assert len(list(unnamed(tree, Classes([tree])))) == 1


@pytest.mark.parametrize("source", NAMED.values(), ids=NAMED)
def test_an_error_with_words_is_not_complained_of(source: str) -> None:
    tree = ast.parse(BASE + source)
    assert list(unnamed(tree, Classes([tree]))) == []
