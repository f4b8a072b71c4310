"""Filters: read, written, evaluated; what is written for one protocol reads back the same."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.cbs.errors import BadFilterError
from assets.cbs.filters import Compare, Join, Node, Not, Text, both, parse, render, split, to_sql, walk

fields = st.sampled_from(["RegioS", "Perioden", "Measure"])
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8)
leaves: st.SearchStrategy[Node] = st.one_of(
    st.builds(Compare, fields, st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]), texts),
    st.builds(Text, st.sampled_from(["contains", "startswith", "endswith"]), fields, texts),
)
nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(
            lambda word, parts: Join(word, tuple(parts)),
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
    ),
    max_leaves=8,
)


def holds(node: Node, rows: str) -> list[bool]:
    sql, values = to_sql(node)
    return [row[0] for row in duckdb.sql(f"SELECT coalesce({sql}, false) FROM {rows}", params=values).fetchall()]


ROWS = (
    "(VALUES ('GM0518', '2020JJ00', 'M1'), ('WK051801', '2021KW01', 'a''b'), ('', '', '')) t(RegioS, Perioden, Measure)"
)


@given(nodes)
def test_what_is_written_reads_back_as_the_same_condition(node: Node) -> None:
    for protocol in ("v4", "v3"):
        again = parse(render(node, protocol))
        assert holds(again, ROWS) == holds(node, ROWS)
        assert list(walk(again)) == list(walk(node))


@given(nodes)
def test_split_parts_hold_together_as_the_whole(node: Node) -> None:
    inside, outside = split(node, frozenset({"RegioS", "Perioden"}))
    parts = [part for part in (inside, outside) if part is not None]
    assert holds(Join("and", tuple(parts)), ROWS) == holds(node, ROWS)
    assert inside is None or all(leaf.field != "Measure" for leaf in walk(inside))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except BadFilterError as error:
        assert "position" in str(error)


@pytest.mark.parametrize(
    ("text", "v3"),
    [
        ("contains(Perioden,'JJ')", "substringof('JJ',Perioden)"),
        ("RegioS eq 'GM0518'", "RegioS eq 'GM0518    '"),
        ("RegioS in ('GM0518','GM1916')", "RegioS eq 'GM0518    ' or RegioS eq 'GM1916    '"),
        ("'2019JJ00' le Perioden", "Perioden ge '2019JJ00'"),
        ("substringof('KW',Perioden) eq false", "not (substringof('KW',Perioden))"),
        (
            "(RegioS eq 'A' or RegioS eq 'B') and Id gt 5",
            "(RegioS eq 'A         ' or RegioS eq 'B         ') and Id gt 5",
        ),
        ("Measure eq 'it''s'", "Measure eq 'it''s'"),
        ("Value eq null", "Value eq null"),
    ],
)
def test_v3_dialect(text: str, v3: str) -> None:
    assert render(parse(text), "v3", {"RegioS": 10}) == v3


@pytest.mark.parametrize(
    "text", ["", "RegioS", "RegioS eq", "RegioS eq GM0518", "(A eq 'b'", "A eq 'b' C", "A like 'b'"]
)
def test_unreadable(text: str) -> None:
    with pytest.raises(BadFilterError, match="position"):
        parse(text)


def test_both() -> None:
    assert both(None, None) is None
    assert both("A eq 'b'", None) == "A eq 'b'"
    assert both("A eq 'b'", "C eq 'd'") == "(A eq 'b') and (C eq 'd')"
