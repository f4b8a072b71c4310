"""Tables that are none are refused with the cell named; good ones become one system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from quality.disclosure import (
    DisclosureError,
    MalformedTable,
    check_margins,
    join,
    load_policy,
    load_spec,
    parse_spec,
    read_table,
    read_tauargus,
    table_from_frame,
)
from quality.disclosure.readers import read_asc, read_hierarchy
from quality.disclosure.table import Table, dimension

CELLS = "geo,cat,n\nTotal,Total,10\nTotal,a,6\nTotal,b,4\nx,Total,7\nx,a,4\nx,b,3\ny,Total,3\ny,a,2\ny,b,1\n"


def _read(tmp_path: Path, text: str, spec: object, **options: object):
    path = tmp_path / "cells.csv"
    path.write_text(text, encoding="utf-8")
    return read_table(path, spec, **options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CELLS.replace("x,a,4", "x,a,5"), r"parts of cells\[geo=\w+, cat=\w+\] differ"),
        (CELLS + "x,a,4\n", r"geo=x, cat=a\] occurs twice"),
        (CELLS.replace("y,b,1", "y,b,-1"), r"geo=y, cat=b\] is negative"),
        (CELLS.replace("y,Total,3\n", ""), r"total cells\[geo=y, cat=Total\] is missing"),
        (CELLS.replace("y,b,1", "y,b,one"), r"row 9: n is not a number"),
        (CELLS.replace("y,b,1", "y,b,NaN"), r"row 9: n is not a number"),
        (CELLS.replace("y,b,1", "y,b,inf"), r"row 9: n is not a number"),
        (CELLS.replace("y,b,1", ",b,1"), r"row 9: no code for geo"),
        (CELLS.replace("n\n", "n,frequency\n").replace("y,b,1", "y,b,1,-2"), r"geo=y, cat=b\] has a negative freq"),
        (CELLS.replace("n\n", "n,status\n").replace("y,b,1", "y,b,1,u"), r"row 9: status 'u' is none of S, U, Z"),
        (CELLS.replace("n\n", "n,n\n"), r"two columns 'n'"),
        (CELLS.replace("y,b,1", '"y,b,1'), r"CSV: a quote is not closed$"),
        (CELLS.replace("geo,cat,n", "geo,cat,m"), r"no column 'n'"),
    ],
    ids=[
        "margin",
        "twice",
        "negative",
        "missing total",
        "no number",
        "the word NaN",
        "infinite",
        "no code",
        "negative frequency",
        "unknown status",
        "column twice",
        "open quote",
        "no column",
    ],
)
def test_a_malformed_table_is_refused_with_its_cell(tmp_path: Path, spec, text: str, told: str) -> None:
    with pytest.raises(DisclosureError, match=told):
        check_margins(join([_read(tmp_path, text, spec())]))


def test_a_circle_in_a_hierarchy_is_refused(tmp_path: Path, spec) -> None:
    (tmp_path / "geo.csv").write_text("code,parent\nx,y\ny,x\n", encoding="utf-8")
    shaped = spec(dimensions={"geo": {"hierarchy": "geo.csv"}, "cat": {}}, folder=tmp_path)
    with pytest.raises(MalformedTable, match=r"circle through code 'x'"):
        _read(tmp_path, CELLS, shaped)


def test_a_code_outside_the_hierarchy_is_refused(tmp_path: Path, spec) -> None:
    (tmp_path / "geo.csv").write_text("code,parent\nx,\n", encoding="utf-8")
    shaped = spec(dimensions={"geo": {"hierarchy": "geo.csv"}, "cat": {}}, folder=tmp_path)
    with pytest.raises(MalformedTable, match=r"'y' occurs in the table but not in the hierarchy"):
        _read(tmp_path, CELLS, shaped)


def test_a_code_with_two_parents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("code;parent\nx;\na;x\na;y\n", encoding="utf-8")
    with pytest.raises(MalformedTable, match="two parents"):
        read_hierarchy(tmp_path / "h.csv")


@pytest.mark.parametrize("text", [CELLS, CELLS.replace(",", ";")], ids=["comma", "semicolon"])
def test_both_separators_are_read(tmp_path: Path, spec, text: str) -> None:
    table = _read(tmp_path, text, spec())
    assert table.value.tolist() == [10, 6, 4, 7, 4, 3, 3, 2, 1]
    assert table.is_count


def test_margins_are_made_over_an_unbalanced_tree() -> None:
    spec = parse_spec(
        {
            "dimensions": {"geo": {}, "cat": {}},
            "measure": "n",
            "primary": [{"rule": "p_percent", "p": 10}],
            "protection": {"percent": 5},
        }
    )
    frame = pl.DataFrame(
        {
            "geo": ["a1", "a2", "b", "a1"],
            "cat": ["p", "p", "p", "q"],
            "n": [5.0, 7.0, 2.0, 1.5],
            "frequency": [2, 3, 1, 1],
            "top1": [4.0, 6.0, 2.0, 1.5],
            "top2": [1.0, 0.5, 0.0, 0.0],
        }
    )
    tree = {"a": "", "a1": "a", "a2": "a", "b": ""}
    table = table_from_frame(frame, spec, hierarchies={"geo": tree}, add_margins=True)
    check_margins(join([table]))
    cells = {(g, c): i for i, (g, c) in enumerate(table.frame().select("geo", "cat").iter_rows())}
    at = cells["a", "p"]
    assert table.value[at] == 12
    assert (table.columns["top1"][at], table.columns["top2"][at]) == (6, 4)
    assert table.columns["frequency"][cells["Total", "Total"]] == 7
    assert not table.is_count


def test_margins_are_not_made_twice(tmp_path: Path, spec) -> None:
    with pytest.raises(MalformedTable, match="is a margin already"):
        _read(tmp_path, CELLS, spec(), add_margins=True)


def test_linked_tables_share_cells_and_must_agree(spec, table) -> None:
    one = table([[4, 2], [3, 1]])
    frame = pl.DataFrame({"geo": ["Total", "g0", "g1"], "n": [10, 6, 4]})
    other = table_from_frame(frame, spec(1), name="u")
    system = join([one, other])
    assert system.cells == 9
    check_margins(system)
    with pytest.raises(MalformedTable, match="another value than the same cell"):
        join([one, table_from_frame(frame.with_columns(n=pl.Series([10, 5, 5])), spec(1), name="u")])


def test_equal_figures_have_equal_fingerprints(table) -> None:
    assert table([[4, 2], [3, 1]]).fingerprint() == table([[4, 2], [3, 1]]).fingerprint()
    assert table([[4, 2], [3, 1]]).fingerprint() != table([[4, 2], [1, 3]]).fingerprint()


def test_tauargus_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "g.hrc").write_text("x\n@x1\n@x2\ny\n", encoding="utf-8")
    (tmp_path / "t.rda").write_text(
        '  <SEPARATOR> ";"\ngeo "X"\n <RECODEABLE>\n <TOTCODE> "All"\n <HIERARCHICAL>\n <HIERCODELIST> "g.hrc"\n'
        ' <HIERLEADSTRING> "@"\nval\n <NUMERIC>\nst\n <STATUS>\n <SAFE> "S"\n <UNSAFE> "U"\n <PROTECT> "P"\n'
        "lo\n <NUMERIC> <LOWERPL>\nup\n <NUMERIC> <UPPERPL>\n",
        encoding="utf-8",
    )
    (tmp_path / "t.tab").write_text(
        '"All";9;S;0;0\n"x";5;P;0;0\n"x1";2;U;1;1\n"x2";3;S;0;0\n"y";4;S;0;0\n', encoding="utf-8"
    )
    table, spec = read_tauargus(tmp_path / "t.tab")
    system = join([table])
    check_margins(system)
    assert table.dimensions[0].depth.max() == 2
    assert system.status("U").sum() == 1
    assert system.status("Z").sum() == 1
    assert np.array_equal(table.columns["upl"], [0, 0, 1, 0, 0])
    assert spec.norms().protection.columns


def test_tauargus_microdata_are_read_by_position(tmp_path: Path) -> None:
    (tmp_path / "m.rda").write_text("size 1 2 99\n <RECODEABLE>\nturnover 3 4\n <NUMERIC>\n", encoding="utf-8")
    (tmp_path / "m.asc").write_text("ab  12\ncd 345\n", encoding="utf-8")
    assert read_asc(tmp_path / "m.asc", tmp_path / "m.rda").rows() == [("ab", "12"), ("cd", "345")]


def test_a_parameter_can_stand_outside_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec) -> None:
    monkeypatch.setenv("P_LIMIT", "15")
    rule = spec(primary=[{"rule": "p_percent", "p": {"env": "P_LIMIT"}}]).norms().primary[0]
    assert rule.p == 15
    (tmp_path / "k").write_text("85\n")
    rule = spec(primary=[{"rule": "dominance", "n": 1, "k": {"file": str(tmp_path / "k")}}]).norms().primary[0]
    assert rule.k == 85
    monkeypatch.delenv("P_LIMIT")
    with pytest.raises(DisclosureError, match="P_LIMIT"):
        spec(primary=[{"rule": "p_percent", "p": {"env": "P_LIMIT"}}])


def test_a_spec_without_a_norm_is_refused(spec) -> None:
    with pytest.raises(DisclosureError, match="which cells are unsafe"):
        spec(primary=None).norms()


def test_a_policy_holds_the_norm(tmp_path: Path, spec) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "frequentie.yaml").write_text(
        "version: '2'\nsource: besluit 2020\nprimary: [{rule: frequency, minimum: 10}]\nprotection: {width: 5}\n"
    )
    norms = spec(primary=None, protection=None, policy="frequentie", folder=tmp_path).norms()
    assert (norms.name, norms.version, norms.minimum, norms.protection.width) == ("frequentie", "2", 10, 5)
    with pytest.raises(DisclosureError, match="both `policy` and `primary`"):
        spec(policy="frequentie", folder=tmp_path).norms()
    with pytest.raises(DisclosureError, match="is not in"):
        spec(primary=None, policy="onbekend", folder=tmp_path).norms()


def test_rows_of_one_name_are_one_cell_whatever_their_table():
    """Two versions of a tree: `a` is unchanged, `b` and the total are not."""
    flat = dimension("geo", "T", {"a", "b"})
    codes = np.array([[0], [1], [2]])
    now = Table("nu", "n", (flat,), codes, np.array([30.0, 10, 20]), names=("T#30", "a#10", "b#20"))
    old = Table("toen", "m", (flat,), codes, np.array([25.0, 10, 15]), names=("T#25", "a#10", "b#15"))
    system = join([now, old])
    assert system.cells == 5
    assert system.cell_of[0][1] == system.cell_of[1][1]
    assert len(system.relations.total) == 2


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("h.hrc", "A\n@@a\n", r"h.hrc: code 'a' stands 2 deep"),
        ("h.hrc", "A\n@a\nB\n@a\n", r"h.hrc: code 'a' has two parents, 'A' and 'B'"),
        ("h.hrc", "\u00c4\n", r"h.hrc is not UTF-8"),
        ("h.csv", "code,parent\n" + "a,\n" * 3000 + "\u00c4,\n", r"h.csv is not UTF-8"),
    ],
    ids=["a level left out", "two parents", "other letters", "other letters further on"],
)
def test_a_hierarchy_that_is_none_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DisclosureError, match=told):
        read_hierarchy(tmp_path / name)


@pytest.mark.parametrize(
    ("rda", "rows", "told"),
    [
        ("geo x 1\nn 2 2\n", b"a 2\n", "should give the place and the width of geo"),
        ("<SEPARATOR>\ngeo\nn\n", b"a;2\n", "one character as <SEPARATOR>"),
        ('<SEPARATOR> ";"\ngeo\nn\n', b"a;2;3\n", "cannot be read by the columns of m.rda"),
        ("geo 1 1\nn 2 2\n", "\u00e4 2\n".encode("latin-1"), "m.asc is not UTF-8"),
    ],
    ids=["no place", "no separator", "too many columns", "other letters"],
)
def test_microdata_that_cannot_be_read_are_refused(tmp_path: Path, rda: str, rows: bytes, told: str) -> None:
    (tmp_path / "m.rda").write_text(rda, encoding="utf-8")
    (tmp_path / "m.asc").write_bytes(rows)
    with pytest.raises(DisclosureError, match=told):
        read_asc(tmp_path / "m.asc", tmp_path / "m.rda")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("primary: []\n", r"line 4: `primary` stands on line 3 already"),
        ("facts: [{why: x, lower: 9, upper: 3, terms: [{cell: {geo: a}}]}]\n", "`lower` is more than `upper`"),
        ("facts: [{why: x, equals: 0, terms: [{cell: {geo: a}, weight: 0}]}]\n", "`weight: 0` tells nothing"),
        ("known: &k {a: *k}\n", "known"),
    ],
)
def test_a_spec_that_says_two_things_or_nothing_is_refused(tmp_path: Path, text: str, told: str) -> None:
    spec = "dimensions: {geo: {}}\nmeasure: n\nprimary: [{rule: frequency, minimum: 4}]\n"
    (tmp_path / "s.yaml").write_text(spec + text, encoding="utf-8")
    with pytest.raises(DisclosureError, match=told):
        load_spec(tmp_path / "s.yaml")


def test_a_policy_names_the_default_attacker_like_a_spec(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("primary: [{rule: frequency, minimum: 4}]\nattacker: default\n", encoding="utf-8")
    assert load_policy("p", tmp_path).attacker.knows_norm
