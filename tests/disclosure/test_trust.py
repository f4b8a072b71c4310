"""What may be relied on: an auditor of its own, the same bytes every time, and secrets that are told nowhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import grimp
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from quality.disclosure import DisclosureError, NotProtected, audit, join, parse_spec, protect, table_from_frame
from quality.disclosure.auditor import bounds, demand_from_truth
from quality.disclosure.certificate import dumps

ENGINE = "quality.disclosure."
PROTECTING = {"protector", "paths", "exact", "needs"}
READING = {"table", "errors", "spec"}


# -- independence ----------------------------------------------------------------------------------------------------
def _reached(graph: grimp.ImportGraph, name: str) -> set[str]:
    found = graph.find_upstream_modules(ENGINE + name)
    return {module.removeprefix(ENGINE) for module in found if module.startswith(ENGINE)}


def test_the_auditor_and_the_protector_share_the_table_reader_alone() -> None:
    graph = grimp.build_graph("quality", cache_dir=None)
    auditor, verifier = _reached(graph, "auditor"), _reached(graph, "verify")
    assert auditor <= READING, "the auditor stands on tables and the declared policy"
    assert verifier <= {"table", "errors"}
    assert _reached(graph, "protector") <= {"paths", "table", "errors"}
    for name in PROTECTING:
        assert not _reached(graph, name) & {"auditor", "verify"}, f"{name} does not lean on who judges it"


# -- the same bytes --------------------------------------------------------------------------------------------------
def test_the_same_input_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    tree = {f"b{b}": f"w{b // 5}" for b in range(40)} | {f"w{w}": f"g{w // 4}" for w in range(8)} | {"g0": "", "g1": ""}
    (tmp_path / "geo.csv").write_text("code,parent\n" + "".join(f"{c},{p}\n" for c, p in tree.items()))
    rows = [f"b{b},c{c},{int(random.integers(0, 40))}" for b in range(40) for c in range(5)]
    (tmp_path / "cells.csv").write_text("\n".join(["geo,cat,n", *rows]) + "\n")
    (tmp_path / "spec.yaml").write_text(
        "dimensions: {geo: {hierarchy: geo.csv}, cat: {}}\nmeasure: n\nprotection: {width: 3}\n"
        "primary: [{rule: frequency, minimum: 5}]\nrounding: {base: 5, method: controlled}\n"
    )
    seen = set()
    for seed, threads in (("0", "1"), ("1", "2")):
        files = [tmp_path / f"{name}{seed}" for name in ("out.csv", "cert.json", "sealed.json", "kinds.csv")]
        words = ["--table", "cells.csv", "--spec", "spec.yaml", "--add-margins"]
        for option, file in zip(("--out", "--certificate", "--sealed", "--kinds"), files, strict=True):
            words += [option, str(file)]
        settings = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "POLARS_MAX_THREADS": threads}
        code = "import sys; from datafabriek.cli import main; sys.argv[0] = 'datafabriek'; main()"
        subprocess.run(
            [sys.executable, "-c", code, "protect", *words],
            cwd=tmp_path, env=os.environ | settings, check=True, capture_output=True,
        )  # fmt: skip
        seen.add(tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files))
    assert len(seen) == 1


# -- secrets ---------------------------------------------------------------------------------------------------------
SECRET = "13.625"
MAGNITUDES = pl.DataFrame(
    {
        "geo": ["a", "a", "a", "b", "b", "b", "c", "c", "c"],
        "cat": ["p", "q", "r"] * 3,
        "n": [100.5, 300, 350, 400, 500, 430, 700, 650, 610],
        "frequency": [5, 9, 9, 12, 20, 14, 30, 30, 28],
        "top1": [90.0, 40, 50, 50, 60, 44, 50, 40, 41],
        "top2": [5.0, 40, 45, 45, 40, 42, 20, 30, 33],
    }
)


def test_the_parameters_of_concentration_rules_are_told_nowhere(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "p").write_text(SECRET + "\n")
    monkeypatch.setenv("K_LIMIT", "86.375")
    monkeypatch.setenv("LEVEL", "7.875")
    MAGNITUDES.write_csv(tmp_path / "cells.csv")
    (tmp_path / "spec.yaml").write_text(
        "dimensions: {geo: {}, cat: {}}\nmeasure: n\nprotection: {percent: {env: LEVEL}}\nattacker: {lower: 0}\n"
        "primary: [{rule: p_percent, p: {file: p}}, {rule: dominance, n: 1, k: {env: K_LIMIT}}]\n"
    )
    words = ["--spec", "spec.yaml", "--table", "cells.csv", "--add-margins", "--out", "out.csv"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["protect", *words, "--certificate", "c.json", "--sealed", "s.json"])
    assert done.exit_code == 0, done.output
    audited = CliRunner().invoke(app, ["audit", "--spec", "spec.yaml", "--table", "out.csv", "--certificate", "c.json"])
    assert audited.exit_code == 0, audited.output
    told = done.output + audited.output + "".join((tmp_path / f).read_text() for f in ("out.csv", "c.json", "s.json"))
    for secret in (SECRET, "86.375", "7.875"):
        assert secret not in told
    public = json.loads((tmp_path / "c.json").read_text())
    assert not {"primary", "rules", "protection", "p", "k"} & set(public["policy"])


def test_a_secret_stays_out_of_errors_and_of_what_a_debugger_prints(tmp_path: Path) -> None:
    rules = [{"rule": "p_percent", "p": float(SECRET)}, {"rule": "dominance", "n": 1, "k": 86.375}]
    shape = {"dimensions": {"geo": {}, "cat": {}}, "measure": "n", "protection": {"percent": 7.875}, "primary": rules}
    spec = parse_spec(
        {**shape, "attacker": {"lower": 0}, "rounding": {"base": 2, "method": "cell_key", "key": "s" * 20}}
    )
    for text in (repr(spec), str(spec.norms()), repr(spec.norms())):
        assert not any(secret in text for secret in (SECRET, "86.375", "7.875", "ssss"))
    (tmp_path / "p").write_text(f"{SECRET} procent\n")
    with pytest.raises(DisclosureError) as wrong:
        parse_spec({**shape, "primary": [{"rule": "p_percent", "p": {"file": str(tmp_path / "p")}}]})
    assert SECRET not in str(wrong.value)
    assert "primary" in str(wrong.value)


def test_what_is_counted_gives_no_further_equation(table, spec) -> None:
    """A precise share or cost of what is hidden would be one more sum over hidden cells."""
    done = protect([table([[1, 20, 30], [40, 50, 60], [70, 80, 90]])], spec(cost="value").norms())
    hidden = done.hidden[0] & ~done.unsafe[0]
    total = float(done.tables[0].value[-1])
    assert done.summary["hidden_value_pct"] == int(done.summary["hidden_value_pct"])
    truth = float(table([[1, 20, 30], [40, 50, 60], [70, 80, 90]]).value[hidden].sum())
    assert truth not in done.summary.values()
    assert 100 * truth / total not in done.summary.values()


# -- perturbation ----------------------------------------------------------------------------------------------------
def test_cell_keys_move_a_cell_the_same_way_everywhere_and_are_audited(table, spec) -> None:
    values = np.random.default_rng(3).integers(0, 60, (6, 4))
    shape = spec(rounding={"base": 2, "method": "cell_key", "key": "k" * 16}, protection={"width": 3})
    full = table(values)
    done = protect([full], shape.norms())
    again = protect([full], shape.norms())
    shown = ~done.hidden[0]
    moved = done.tables[0].value[shown] - full.value[shown]
    assert np.array_equal(done.tables[0].value[shown], again.tables[0].value[shown])
    assert np.abs(moved).max() <= 2
    assert (moved != 0).any()
    assert (done.tables[0].value[shown][full.value[shown] == 0] == 0).all()
    assert (done.audit.lower[shown] <= full.value[shown]).all()
    assert (done.audit.upper[shown] >= full.value[shown]).all()
    other = table_from_frame(pl.DataFrame({"geo": [f"g{g}" for g in range(6)], "n": values.sum(axis=1)}), spec(1),
                             name="u", add_margins=True)  # fmt: skip
    alone = protect([other], shape.norms())
    same = {code: row for row, code in enumerate(other.frame()["geo"])}
    for row, (geo, cat) in enumerate(full.frame().select("geo", "cat").iter_rows()):
        if cat == "Total" and not done.hidden[0][row] and not alone.hidden[0][same[geo]]:
            assert done.tables[0].value[row] == alone.tables[0].value[same[geo]]
    assert "kkkk" not in dumps(done.certificate) + dumps(done.sealed)


def test_perturbing_without_a_key_is_refused(table, spec) -> None:
    with pytest.raises(NotProtected, match="16 bytes"):
        protect([table([[4, 2], [3, 1]])], spec(rounding={"base": 2, "method": "cell_key"}).norms())


# -- the least number ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(6))
def test_no_smaller_pattern_protects_what_was_proved_least(seed: int, table, spec) -> None:
    values = np.random.default_rng(seed).integers(1, 20, (3, 3))
    values[0, 0] = 2
    norms = spec(cost="unit", protection={"absolute": 2}, attacker={"lower": 0}).norms()
    full = table(values)
    done = protect([full], norms, exact=True)
    least = int(done.summary["secondary"])
    assert done.summary["at_least"] == least
    unsafe = done.unsafe[0]
    system = join([full])
    able = np.flatnonzero(~unsafe & (full.value > 0))
    for chosen in combinations(able.tolist(), min(least - 1, 2)):
        hidden = unsafe.copy()
        hidden[list(chosen)] = True
        published = system.with_values([np.where(hidden, np.nan, full.value)])
        lower, upper = bounds(published, norms, hidden, np.zeros_like(hidden))
        level = np.where(unsafe, 2.0, 0.0)
        demand = demand_from_truth(published, full.value, hidden, level, level, lower, upper)
        assert not audit(published, norms, demand=demand).passed
