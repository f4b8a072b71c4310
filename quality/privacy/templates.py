"""What a factory's own model may do in its template, so that what it reads can be told before it runs.

dbt fills in a template more than once: to see what it comes to, and again when it runs. A template that looks at which
of the two it is, at the clock or the environment, or that asks the database, may read another table the second time
than was judged the first. So the templates of own models keep to what comes to the same SQL every time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

_NAMES = frozenset({"ref", "source", "config", "var", "range"})
"""What dbt offers that a template may call; what else these objects can do may not be used."""

_PLAIN = frozenset({"this", "loop"})

_FILTERS = frozenset({
    "abs", "batch", "default", "first", "float", "format", "int", "join", "last", "length", "list", "lower", "replace",
    "round", "slice", "sort", "string", "title", "tojson", "trim", "truncate", "unique", "upper",
})  # fmt: skip


def unsteady(template: str, macros: Collection[str]) -> list[str]:
    """What in a template could come to other SQL when it runs than when it was looked at; nothing in a good one.

    Args:
        template: a model as it was written.
        macros: of the shipped project, which may be called.
    """
    from jinja2 import Environment, TemplateSyntaxError, nodes

    # dbt's own tags (macro, snapshot, test, …) are unknown here, and have no place in a model
    environment = Environment(extensions=["jinja2.ext.do"], autoescape=False)  # noqa: S701 - parsed, never rendered
    try:
        tree = environment.parse(template)
    except TemplateSyntaxError as error:
        return [f"line {error.lineno} is no template of a model"]
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx in {"store", "param"}}
    callable_ = (_NAMES | set(macros)) - own
    called = {id(call.node) for call in tree.find_all(nodes.Call)}

    def found() -> Iterator[tuple[int, str]]:
        for name in tree.find_all(nodes.Name):
            is_called = name.name in callable_ and id(name) in called
            if not is_called and name.name not in own | _PLAIN:
                yield name.lineno, name.name
            if name.name in own and name.name in _NAMES | set(macros):
                yield name.lineno, name.name
        for kind in (nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends):
            for node in tree.find_all(kind):
                yield node.lineno, kind.__name__.lower()
        for change in tree.find_all(nodes.Filter):
            if change.name not in _FILTERS:
                yield change.lineno, change.name
        for part in tree.find_all(nodes.Getattr):
            # a method that is not called shows its place in memory, which is another every time
            is_told = id(part) in called or (isinstance(part.node, nodes.Name) and part.node.name in _PLAIN)
            if not is_told or part.attr.startswith("_"):
                yield part.lineno, part.attr
        for item in tree.find_all(nodes.Getitem):
            if not isinstance(item.arg, nodes.Const) or str(item.arg.value).startswith("_"):
                yield item.lineno, "[…]"

    return [f"line {line} uses `{name}`" for line, name in sorted(set(found()))]
