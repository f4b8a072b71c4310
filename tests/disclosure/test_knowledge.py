"""What a spec declares that the attacker knows besides: earlier releases, other figures, a supplier's own records."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.errors import FactoryError

SPEC = """
dimensions: {geo: {total: Total}, cat: {total: Total}}
measure: n
primary: [{rule: frequency, minimum: 4}]
protection: {width: 2}
input: "2020"
"""
CELLS = "geo,cat,n\na,p,2\na,q,20\na,r,31\nb,p,40\nb,q,53\nb,r,60\nc,p,71\nc,q,80\nc,r,94\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells.csv").write_text(CELLS, encoding="utf-8")
    return tmp_path


def _spec(folder: Path, more: str = "", base: str = SPEC) -> Path:
    path = folder / "spec.yaml"
    path.write_text(base + more, encoding="utf-8")
    return path


def _run(*words: object) -> tuple[int, str]:
    try:
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    except FactoryError as error:
        return error.exit_code, str(error)
    return done.exit_code, done.output


def _protect(folder: Path, spec: Path, out: str = "out.csv") -> tuple[int, str]:
    return _run(
        "protect", "--table", folder / "cells.csv", "--spec", spec, "--out", folder / out,
        "--certificate", folder / "c.json", "--add-margins",
    )  # fmt: skip


def _audit(folder: Path, spec: Path, table: str = "out.csv", *more: object) -> tuple[int, str]:
    return _run("audit", "--table", folder / table, "--spec", spec, *more)


def _hidden(path: Path) -> set[str]:
    return {line.rsplit(",", 2)[0] for line in path.read_text(encoding="utf-8").splitlines() if "geheim" in line}


def test_what_an_earlier_release_hid_stays_hidden(folder: Path) -> None:
    """Another cost would choose another rectangle; the two together would tell everything."""
    assert _protect(folder, _spec(folder, "cost: value\n"), "first.csv")[0] == 0
    other = "earlier: [{table: first.csv, release: '1', input: '2020'}]\n"
    (folder / "cells.csv").write_text(
        CELLS.replace("\n", ",9\n").replace("n,9", "n,cost").replace("a,q,20,9", "a,q,20,900")
    )
    assert _protect(folder, _spec(folder, "cost: column\n"), "alone.csv")[0] == 0
    assert _hidden(folder / "alone.csv") != _hidden(folder / "first.csv")
    spec = _spec(folder, "cost: column\n" + other)
    code, told = _audit(folder, spec, "alone.csv")
    assert code == 1
    assert "under-protected" in told
    assert _protect(folder, spec)[0] == 0
    assert _hidden(folder / "first.csv") <= _hidden(folder / "out.csv")
    assert _audit(folder, spec)[0] == 0
    assert _audit(folder, spec, "out.csv", "--certificate", folder / "c.json")[0] == 0


def test_what_was_shown_before_cannot_be_hidden_now(folder: Path) -> None:
    assert _protect(folder, _spec(folder), "first.csv")[0] == 0
    text = (folder / "first.csv").read_text(encoding="utf-8").replace("a,p,,geheim", "a,p,2,verstrekt")
    (folder / "first.csv").write_text(text, encoding="utf-8")
    code, told = _protect(folder, _spec(folder, "earlier: [{table: first.csv, release: '1', input: '2020'}]\n"))
    assert code == 1
    assert "an earlier release" in told
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(("revision", "code"), [(1, 1), (40, 0)])
def test_figures_revised_since_count_within_their_bound(folder: Path, revision: int, code: int) -> None:
    old = (
        CELLS.replace("geo,cat,n", "geo,cat,n,status")
        .replace("\n", ",verstrekt\n")
        .replace("status,verstrekt", "status")
    )
    rows = {
        "Total,p": 113,
        "Total,q": 153,
        "Total,r": 185,
        "a,Total": 53,
        "b,Total": 153,
        "c,Total": 245,
        "Total,Total": 451,
    }
    old += "".join(f"{name},{n},verstrekt\n" for name, n in rows.items())
    (folder / "old.csv").write_text(old, encoding="utf-8")
    more = f"earlier: [{{table: old.csv, release: '2019-1', input: '2019', revision: {revision}}}]\n"
    wide = SPEC.replace("width: 2", "width: 5")
    assert _protect(folder, _spec(folder, more, wide))[0] == code


def test_a_revision_of_the_same_input_is_refused(folder: Path) -> None:
    assert _protect(folder, _spec(folder), "first.csv")[0] == 0
    spec = _spec(folder, "earlier: [{table: first.csv, release: '1', input: '2020', revision: 3}]\n")
    code, told = _protect(folder, spec)
    assert code == 2
    assert "cannot have been revised" in told


def test_another_partner_counts_unless_the_policy_says_that_partners_do_not_collude(folder: Path) -> None:
    assert _protect(folder, _spec(folder), "first.csv")[0] == 0
    text = (folder / "first.csv").read_text(encoding="utf-8").replace("a,p,,geheim", "a,p,2,verstrekt")
    (folder / "first.csv").write_text(text, encoding="utf-8")
    other = "earlier: [{table: first.csv, release: '1', input: '2020', partner: GGD}]\n"
    assert _protect(folder, _spec(folder, other))[0] == 1
    assert _protect(folder, _spec(folder, other + "attacker: {partners: false}\n"))[0] == 0


@pytest.mark.parametrize(
    "fact",
    [
        "{why: r, rate: 80.0, per: 1000, numerator: {cell: {geo: a, cat: p}}, denominator: 25}",
        "{why: s, equals: 55, terms: [{cell: {geo: a, cat: p}}, {cell: {geo: b, cat: q}}]}",
        "{why: s, lower: 1, upper: 2, terms: [{cell: {geo: a, cat: p}}]}",
        "{why: f, rates: rates.csv, column: promille, denominator: inwoners}",
    ],
    ids=["rate", "sum", "interval", "file of rates"],
)
def test_a_fact_that_gives_a_hidden_cell_away_is_caught(folder: Path, fact: str) -> None:
    (folder / "rates.csv").write_text("geo;cat;promille;inwoners\na;p;80,0;25\nb;p;;25\n", encoding="utf-8")
    assert _protect(folder, _spec(folder))[0] == 0
    assert {"a,q", "b,q"} <= _hidden(folder / "out.csv")
    spec = _spec(folder, f"facts: [{fact}]\n")
    code, told = _audit(folder, spec)
    assert code == 1
    assert "under-protected" in told
    code, _ = _protect(folder, spec, "again.csv")
    # a sum can be met by hiding round another way; what pins the cell itself cannot be mended
    assert code == (0 if "equals" in fact else 1)
    if code == 0:
        assert _audit(folder, spec, "again.csv")[0] == 0


def test_a_rate_between_linked_tables(folder: Path) -> None:
    """Claimants of all inhabitants as a rate: with the inhabitants shown, the rate tells the hidden claimants."""
    people = CELLS.replace("n\n", "inwoners\n", 1).replace("a,p,2\n", "a,p,25\n")
    (folder / "people.csv").write_text(people, encoding="utf-8")
    (folder / "people.yaml").write_text(
        SPEC.replace("measure: n", "measure: inwoners") + "table: people.csv\n", encoding="utf-8"
    )
    fact = "{why: r, rate: 8.0, per: 100, numerator: {cell: {geo: a, cat: p}}, denominator: {cell: {geo: a, cat: p}, measure: inwoners}}"  # noqa: E501
    words = ("--out", folder / "out", "--certificate", folder / "c.json", "--add-margins", "--exact")
    plain = _spec(folder, "linked: [people.yaml]\ntable: cells.csv\n")
    assert _run("protect", "--spec", plain, *words)[0] == 0
    shown = (folder / "out" / "people.csv").read_text(encoding="utf-8")
    assert "a,p,25,verstrekt" in shown
    spec = _spec(folder, f"linked: [people.yaml]\ntable: cells.csv\nfacts: [{fact}]\n")
    assert _audit(folder, spec, "out")[0] == 1
    assert _run("protect", "--spec", spec, *words)[0] == 0
    assert "a,p,,geheim" in (folder / "out" / "people.csv").read_text(encoding="utf-8")
    assert _audit(folder, spec, "out")[0] == 0


def test_a_supplier_is_judged_with_the_truth(folder: Path) -> None:
    assert _protect(folder, _spec(folder))[0] == 0
    corner = next(iter(_hidden(folder / "out.csv") - {"a,p"})).split(",")
    spec = _spec(folder, f"known: {{UWV: [{{geo: {corner[0]}, cat: {corner[1]}}}]}}\n")
    truth = ("--truth", folder / "cells.csv", "--add-margins")
    code, told = _audit(folder, spec, "out.csv", *truth)
    assert code == 1
    assert "UWV, who knows its own cells, learns too much of" in told
    assert "only with --truth" in _audit(folder, spec)[1]
    assert _protect(folder, spec, "again.csv")[0] == 0
    assert _audit(folder, spec, "again.csv", *truth)[0] == 0
    off = _spec(folder, f"known: {{UWV: [{{geo: {corner[0]}, cat: {corner[1]}}}]}}\nattacker: {{suppliers: false}}\n")
    assert _audit(folder, off, "out.csv", *truth)[0] == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("earlier: [{table: nowhere.csv, release: '1', input: '2019'}]", "nowhere.csv is not there"),
        ("facts: [{why: x, rate: 3.0, numerator: {cell: {geo: a}}}]", "needs its `denominator`"),
        ("facts: [{why: x, terms: [{cell: {goe: a}}], equals: 3}]", "no dimension 'goe'"),
        ("facts: [{why: x, terms: [{cell: {geo: z}}], equals: 3}]", "no cell"),
        ("facts: [{why: x, terms: [{cell: {geo: a}, measure: m}], equals: 3}]", "no table of measure m"),
        ("facts: [{why: a sum, terms: [{cell: {geo: a}}, {cell: {geo: b}}], equals: 3}]", "a sum: the figures do not"),
        ("facts: [{why: x, terms: [{cell: {geo: a}}], equals: 3}]", "lies outside an interval"),
        ("facts: [{why: x, rates: cells.csv, column: promille, denominator: 3}]", "should hold the columns"),
        ("known: {UWV: [{geo: z}]}", "known to UWV: a cell that"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_two(folder: Path, more: str, told: str) -> None:
    code, text = _protect(folder, _spec(folder, more + "\n"))
    assert code == 2
    assert told in text
    assert not (folder / "out.csv").exists()


def test_what_was_hidden_from_another_partner_may_be_shown(folder: Path) -> None:
    """A stricter norm for the other hides more there; that binds nobody here."""
    strict = _spec(folder, "", SPEC.replace("minimum: 4", "minimum: 45"))
    assert _protect(folder, strict, "other.csv")[0] == 0
    spec = _spec(folder, "earlier: [{table: other.csv, release: '1', input: '2020', partner: GGD}]\n")
    assert _protect(folder, spec)[0] == 0
    assert _hidden(folder / "out.csv") < _hidden(folder / "other.csv")
    assert _audit(folder, spec)[0] == 0
