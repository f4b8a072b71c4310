"""Of some codes not all parts stand in the table: the parts that do add up to at most the whole, which bounds them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from datafabriek.cli import app
from quality.disclosure import (
    DisclosureError,
    MalformedTable,
    NotProtected,
    audit,
    check_certificate,
    check_margins,
    join,
    protect,
    table_from_frame,
)
from quality.disclosure.verify import given_away

FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MOST = 4
EVERY = np.array(list(itertools.product(range(MOST + 1), repeat=6)), dtype=np.int64).reshape(-1, 3, 2)
CELLS = [(g, c) for g in ("Total", "g0", "g1") for c in ("Total", "c0", "c1")]


def _values(leaves: np.ndarray) -> np.ndarray:
    """The nine cells of two listed areas and their total, of which a third area is an unlisted part."""
    listed = np.concatenate([leaves.sum(axis=-2, keepdims=True), leaves[..., :2, :]], axis=-2)
    return np.concatenate([listed.sum(axis=-1, keepdims=True), listed], axis=-1).reshape(*leaves.shape[:-2], 9)


def _incomplete(leaves: np.ndarray, spec, **changes):
    shape = spec(dimensions={"geo": {"open": ["Total"]}, "cat": {}}, **changes)
    geo, cat = zip(*CELLS, strict=True)
    return table_from_frame(
        pl.DataFrame({"geo": geo, "cat": cat, "n": _values(leaves).tolist()}), shape, name="t"
    ), shape


@FEW
@given(seed=st.integers(0, 10_000), least=st.sampled_from([0.0, 1.0]), share=st.sampled_from([0.4, 0.7]))
def test_the_auditor_and_the_verifier_agree_with_brute_force(seed, least, share, spec) -> None:
    random = np.random.default_rng(seed)
    full, shape = _incomplete(random.integers(0, 3, (3, 2)), spec, attacker={"lower": least})
    hide = (random.random(9) < share) & (full.value >= least)
    system = join([full]).with_values([np.where(hide, np.nan, full.value)])
    result = audit(system, shape.norms())
    assume(result.upper.max() <= MOST)
    every = _values(EVERY)
    fits = (every[:, ~hide] == full.value[~hide]).all(axis=1) & (every[:, hide] >= least).all(axis=1)
    assert np.array_equal(result.lower, every[fits].min(axis=0))
    assert np.array_equal(result.upper, every[fits].max(axis=0))
    assert np.array_equal(given_away(system, least), hide & (result.upper - result.lower < 0.5))


@FEW
@given(seed=st.integers(0, 10_000), most=st.sampled_from([9, 40]))
def test_what_the_protector_gives_passes_also_beside_unknown_parts(seed, most, spec) -> None:
    random = np.random.default_rng(seed)
    full, shape = _incomplete(random.integers(0, most, (3, 2)), spec, protection={"width": 3})
    norms = shape.norms()
    try:
        done = protect([full], norms)
    except NotProtected:
        everything = join([full]).with_values([np.where(full.value > 0, np.nan, 0.0)])
        result = audit(everything, norms)
        assert (result.upper - result.lower)[(full.value > 0) & (full.value < 4)].min() < 3
        return
    system = join([full]).with_values([done.tables[0].value])
    result = audit(system, norms)
    assert (result.upper - result.lower)[result.hidden].min(initial=9) >= 3
    assert check_certificate(done.certificate, system, np.zeros(system.cells, bool), result) == []
    assert not given_away(system, 1.0).any()


def test_a_small_part_that_its_region_bounds_is_not_left_alone(spec) -> None:
    """Of 30 two parts are known, 2 and 28: who sees 30 and 28 finds at most 2."""
    shape = spec(1, dimensions={"geo": {"open": ["Total"]}})
    full = table_from_frame(pl.DataFrame({"geo": ["Total", "a", "b"], "n": [30, 2, 28]}), shape, name="t")
    alone = audit(join([full]).with_values([np.array([30, np.nan, 28])]), shape.norms())
    assert (alone.lower[1], alone.upper[1]) == (1, 2)
    assert protect([full], shape.norms()).hidden[0].sum() == 2
    loose = table_from_frame(pl.DataFrame({"geo": ["Total", "a", "b"], "n": [90, 2, 28]}), shape, name="t")
    norms = shape.norms().model_copy(update={"attacker": spec(1, attacker={"lower": 1}).norms().attacker})
    assert protect([loose], norms).hidden[0].tolist() == [False, True, False]


def test_parts_that_exceed_their_region_are_refused(spec) -> None:
    shape = spec(1, dimensions={"geo": {"open": ["Total"]}})
    full = table_from_frame(pl.DataFrame({"geo": ["Total", "a", "b"], "n": [30, 9, 28]}), shape, name="t")
    with pytest.raises(DisclosureError, match=r"known parts of t\[geo=Total\]"):
        protect([full], shape.norms())
    with pytest.raises(DisclosureError, match="contradict"):
        audit(join([full]).with_values([np.array([30, np.nan, 30])]), shape.norms())


def test_without_a_word_of_unknown_parts_a_sum_that_is_too_small_is_refused(spec) -> None:
    full = table_from_frame(pl.DataFrame({"geo": ["Total", "a", "b"], "n": [90, 2, 28]}), spec(1), name="t")
    with pytest.raises(MalformedTable, match="differ from it by"):
        check_margins(join([full]))
    shape = spec(1, dimensions={"geo": {"open": ["elders"]}})
    with pytest.raises(MalformedTable, match="'elders'"):
        table_from_frame(pl.DataFrame({"geo": ["Total", "a"], "n": [9, 9]}), shape)
    with pytest.raises(MalformedTable, match="no margins can be made"):
        table_from_frame(pl.DataFrame({"geo": ["a"], "n": [9]}), spec(1, dimensions={"geo": {"open": ["Total"]}}),
                         add_margins=True)  # fmt: skip


def test_the_commands_read_of_unknown_parts(tmp_path: Path) -> None:
    (tmp_path / "geo.csv").write_text("code,parent\nw,\nv,\nb1,w\nb2,w\n")
    (tmp_path / "cells.csv").write_text("geo,n\nTotal,90\nw,30\nv,60\nb1,2\nb2,28\n")
    (tmp_path / "spec.yaml").write_text(
        "dimensions: {geo: {hierarchy: geo.csv, open: [w]}}\nmeasure: n\n"
        "primary: [{rule: frequency, minimum: 4}]\nprotection: {width: 2}\n"
    )
    spec, table, proof = (str(tmp_path / name) for name in ("spec.yaml", "cells.csv", "c.json"))
    out = str(tmp_path / "out.csv")
    done = CliRunner().invoke(app, ["protect", "--table", table, "--spec", spec, "--out", out, "--certificate", proof])
    assert done.exit_code == 0, done.output
    assert Path(out).read_text().count("geheim") == 2
    words = ["audit", "--table", out, "--spec", spec]
    assert CliRunner().invoke(app, [*words, "--certificate", proof, "--truth", table]).exit_code == 0
    Path(out).write_text(
        "geo,n,status\nTotal,90,verstrekt\nw,30,verstrekt\nv,60,verstrekt\nb1,,geheim\nb2,28,verstrekt\n"
    )
    assert CliRunner().invoke(app, words).exit_code == 1
