"""`protect` and `audit` on the command line: files, exit codes, and what they tell."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.errors import FactoryError

SPEC = """
dimensions: {geo: {total: Total}, cat: {total: Total}}
measure: n
primary: [{rule: frequency, minimum: 4}]
protection: {width: 2}
attacker: default
"""
CELLS = "cat;geo;n\np;a;2\nq;a;20\nr;a;31\np;b;40\nq;b;53\nr;b;60\np;c;71\nq;c;80\nr;c;94\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "cells.csv").write_text(CELLS, encoding="utf-8")
    return tmp_path


def _run(*words: object) -> int:
    """The exit code that a shell would see."""
    try:
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).exit_code
    except FactoryError as error:
        return error.exit_code


def _protect(folder: Path, *more: object) -> int:
    return _run(
        "protect", "--table", folder / "cells.csv", "--spec", folder / "spec.yaml", "--out", folder / "out.csv",
        "--certificate", folder / "cert.json", "--add-margins", *more,
    )  # fmt: skip


def _audit(folder: Path, *more: object) -> int:
    return _run("audit", "--table", folder / "out.csv", "--spec", folder / "spec.yaml", *more)


def test_what_protect_writes_passes_audit(folder: Path) -> None:
    assert _protect(folder) == 0
    text = (folder / "out.csv").read_text(encoding="utf-8").splitlines()
    assert text[0] == "geo;cat;n;status"
    assert text[1] == "a;p;;geheim"
    assert len(text) == 17
    assert _audit(folder) == 0
    assert _audit(folder, "--certificate", folder / "cert.json") == 0
    assert _audit(folder, "--truth", folder / "cells.csv", "--add-margins") == 0


def test_audit_tells_an_under_protected_table(folder: Path) -> None:
    _protect(folder)
    frame = pl.read_csv(folder / "out.csv", separator=";")
    naive = frame.with_columns(n=pl.Series([None, *[20, 31, 40, 53, 60, 71, 80, 94], *frame["n"][9:]]))
    naive.write_csv(folder / "out.csv", separator=";")
    assert _audit(folder) == 1
    assert _audit(folder, "--truth", folder / "cells.csv", "--add-margins") == 1
    assert _audit(folder, "--certificate", folder / "cert.json") == 1


def test_audit_without_any_measure_is_refused(folder: Path) -> None:
    _protect(folder)
    (folder / "spec.yaml").write_text(SPEC.replace("width: 2", "absolute: 2"), encoding="utf-8")
    assert _audit(folder) == 2


@pytest.mark.parametrize(
    "text",
    [CELLS + "p;a;2\n", CELLS.replace("p;a;2", "p;a;-2"), CELLS.replace("p;a;2", "p;a;x"), "cat;geo;m\np;a;1\n"],
    ids=["twice", "negative", "no number", "no column"],
)
def test_bad_input_ends_with_two(folder: Path, text: str) -> None:
    (folder / "cells.csv").write_text(text, encoding="utf-8")
    assert _protect(folder) == 2
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize("missing", ["cells.csv", "spec.yaml"])
def test_a_missing_file_ends_with_two(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert _protect(folder) == 2


def test_no_proof_no_table(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("width: 2", "width: 2000000"), encoding="utf-8")
    (folder / "cells.csv").write_text(CELLS.replace("\n", ";\n").replace("n;", "n;status", 1), encoding="utf-8")
    assert _protect(folder, "--time-limit", "0") == 1
    assert not (folder / "out.csv").exists()


def test_kinds_are_written_on_request_only(folder: Path) -> None:
    assert _protect(folder, "--kinds", folder / "kinds.csv", "--sealed", folder / "sealed.json") == 0
    assert "unsafe" not in (folder / "out.csv").read_text(encoding="utf-8")
    assert "unsafe" not in (folder / "cert.json").read_text(encoding="utf-8")
    assert "unsafe" in (folder / "kinds.csv").read_text(encoding="utf-8")
    assert json.loads((folder / "sealed.json").read_text(encoding="utf-8"))["unsafe"].count(True) == 1
    assert (folder / "sealed.json").stat().st_mode & 0o077 == 0


def test_linked_tables_go_to_a_folder(folder: Path) -> None:
    (folder / "other.yaml").write_text(
        SPEC.replace("cat: {total: Total}", "age: {total: Total}") + "table: other.csv\n", encoding="utf-8"
    )
    (folder / "spec.yaml").write_text(SPEC + "linked: [other.yaml]\ntable: cells.csv\n", encoding="utf-8")
    (folder / "other.csv").write_text("geo;age;n\na;y;22\na;o;31\nb;y;100\nb;o;53\nc;y;200\nc;o;45\n", encoding="utf-8")
    out = folder / "out"
    assert (
        _run(
            "protect", "--spec", folder / "spec.yaml", "--out", out, "--certificate", folder / "c.json", "--add-margins"
        )
        == 0
    )
    assert sorted(path.name for path in out.iterdir()) == ["cells.csv", "other.csv"]
    assert _run("audit", "--table", out, "--spec", folder / "spec.yaml", "--certificate", folder / "c.json") == 0


def test_rounded_tables_are_audited(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC + "rounding: {base: 5, method: controlled}\n", encoding="utf-8")
    assert _protect(folder) == 0
    assert "afgerond" in (folder / "out.csv").read_text(encoding="utf-8")
    assert _audit(folder, "--certificate", folder / "cert.json") == 0


def test_the_help_shows_the_interval_that_is_checked() -> None:
    assert "[x − lpl" in CliRunner().invoke(app, ["audit", "--help"]).stdout


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("measure:", "mesure:", r"spec.yaml, line 3: `mesure` is not a key here; did you mean `measure`\?"),
        ("minimum:", "minimun:", r"line 4: `primary.0.frequency.minimun` .*did you mean `minimum`"),
        ("width:", "widht:", r"line 5: `protection.widht` .*did you mean `width`"),
    ],
)
def test_a_misspelt_key_of_a_spec_is_told_with_its_line(folder: Path, right: str, wrong: str, told: str) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace(right, wrong), encoding="utf-8")
    files = {"--spec": "spec.yaml", "--table": "cells.csv", "--out": "out.csv", "--certificate": "c.json"}
    words = [word for option, name in files.items() for word in (option, str(folder / name))]
    with pytest.raises(FactoryError, match=told):
        CliRunner().invoke(app, ["protect", *words], catch_exceptions=False)


def test_microdata_of_tauargus_become_a_table(folder: Path) -> None:
    """Two holdings in cell (a, p), one of which reports twice."""
    (folder / "m.rda").write_text(
        "geo 1 1\n <RECODEABLE>\ncat 2 1\n <RECODEABLE>\nn 3 5\n <NUMERIC>\ngroup 8 2\n <HOLDING>\n", encoding="utf-8"
    )
    rows = ["ap   10h1", "ap   20h1", "ap  900h2", *(f"{g}{c}  {70 + k}0h{k}" for k, (g, c) in enumerate(
        (g, c) for g in "abc" for c in "pq" for _ in range(3) if g + c != "ap"))]  # fmt: skip
    (folder / "m.asc").write_text("\n".join(row.ljust(9) for row in rows), encoding="utf-8")
    (folder / "spec.yaml").write_text(
        "dimensions: {geo: {}, cat: {}}\nmeasure: n\nkind: magnitude\nprimary: [{rule: frequency, minimum: 3}]\n"
        "protection: {percent: 10}\nattacker: {lower: 0}\n",
        encoding="utf-8",
    )
    words = ("--spec", folder / "spec.yaml", "--out", folder / "out.csv", "--certificate", folder / "c.json")
    assert _run("protect", "--table", folder / "m.asc", *words) == 0
    out = pl.read_csv(folder / "out.csv")
    assert out.filter((pl.col("geo") == "a") & (pl.col("cat") == "p"))["status"].item() == "geheim"
    assert len(out) == 12
    assert _audit(folder, "--truth", folder / "m.asc") == 0


@pytest.mark.parametrize(
    ("cells", "norm", "told"),
    [
        ("a,,10\nb,12,10\nTotal,15,20\n", "rule: frequency, minimum: 4", r"geo=a\] is empty; only full tables"),
        ("a,3,0\nb,12,9\nTotal,15,9\n", "rule: frequency, minimum: 4", r"geo=a\] has a value but,.* no contributors"),
        ("a,3,\nb,12,9\nTotal,15,9\n", "rule: p_percent, p: 10", r"geo=a\] has no top1, which the rule p_percent"),
        ("a,3,1\nb,12,\nTotal,15,9\n", "rule: dominance, n: 1, k: 85", r"geo=b\] has no top1, which the rule domin"),
        ("a,3,\nb,12,99\nTotal,15,99\n", "rule: minimum_population, minimum: 5", r"geo=a\] has no population"),
        ("a,3,\nb,12,\nTotal,15,\n", "rule: group_disclosure, dimension: kat", r"names 'kat', which no table has"),
        ("a,3,U\nb,12,\nTotal,15,\n", "rule: frequency, minimum: 2", r"geo=a\] has the status U, but no rule"),
        ("a,3,\nb,12,\nTotal,15,\n", "rule: p_percent, p: .nan", r"`primary.0`: .*finite number"),
        ("a,3,\nb,12,\nTotal,15,\n", "rule: dominance, n: 1, k: -1", r"`primary.0`: .*greater than 0"),
    ],
)
def test_a_cell_of_which_a_norm_cannot_tell_is_refused(folder: Path, cells: str, norm: str, told: str) -> None:
    """Each of these was shown before, since a comparison with nothing is never true."""
    column = {"frequency": "frequency", "minimum_population": "population"}.get(norm[6:].split(",")[0], "top1")
    column = "status" if "status" in told else column
    header = f"geo,n,{column}" + (",top2" if "top1" in column else "")
    rows = cells.replace("\n", ",0\n") if "top1" in column else cells
    (folder / "cells.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    (folder / "spec.yaml").write_text(
        f"dimensions: {{geo: {{}}}}\nmeasure: n\nprimary: [{{{norm}}}]\nprotection: {{width: 2}}\n", encoding="utf-8"
    )
    words = ("--spec", folder / "spec.yaml", "--out", folder / "out.csv", "--certificate", folder / "c.json")
    words = ["protect", "--table", folder / "cells.csv", *words]
    with pytest.raises(FactoryError, match=told) as refused:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert refused.value.exit_code == 2
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--out", "cells.csv"), ("--out", "cert.json"), ("--out", "."), ("--certificate", "."), ("--kinds", "out.csv"),
        ("--sealed", "spec.yaml"),
    ],
)  # fmt: skip
def test_no_file_is_written_over_another(folder: Path, words: tuple[str, str]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert _protect(folder, words[0], folder / words[1]) == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_all_files_are_written_or_none(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(OSError, match="file"):
        _protect(folder, "--kinds", folder / "file" / "kinds.csv")
    assert sorted(path.name for path in folder.iterdir()) == ["cells.csv", "file", "spec.yaml"]
    assert _protect(folder, "--kinds", folder / "kinds.csv", "--sealed", folder / "new" / "sealed.json") == 0
    assert [(folder / name).stat().st_mode & 0o777 for name in ("kinds.csv", "new/sealed.json")] == [0o600, 0o600]


@pytest.mark.parametrize(
    "change",
    [{"minimum_width": "wide"}, {"minimum_width": float("nan")}, {"lower": [float("nan")]}, {"lower": None}],
    ids=str,
)
def test_a_certificate_that_is_none_is_bad_input(folder: Path, change: dict[str, object]) -> None:
    assert _protect(folder) == 0
    told = json.loads((folder / "cert.json").read_text(encoding="utf-8"))
    (told if "minimum_width" in change else told["tables"][0]).update(change)
    (folder / "cert.json").write_text(json.dumps(told), encoding="utf-8")
    assert _audit(folder, "--certificate", folder / "cert.json") == 2
    assert _audit(folder, "--certificate", folder / "none.json") == 2


def test_a_hidden_table_is_no_truth(folder: Path) -> None:
    assert _protect(folder) == 0
    assert _audit(folder, "--truth", folder / "out.csv") == 2


def test_linked_tables_have_one_norm(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC + "table: cells.csv\nlinked: [other.yaml]\n", encoding="utf-8")
    (folder / "other.csv").write_text("geo,n\na,53\nb,153\nc,245\n", encoding="utf-8")
    strict = SPEC.replace("minimum: 4", "minimum: 60").replace(", cat: {total: Total}", "") + "table: other.csv\n"
    (folder / "other.yaml").write_text(strict, encoding="utf-8")
    words = ("--spec", folder / "spec.yaml", "--out", folder / "out", "--certificate", folder / "c.json")
    assert _run("protect", *words, "--add-margins") == 2
    (folder / "other.yaml").write_text(strict.replace("60", "4") + "linked: [third.yaml]\n", encoding="utf-8")
    assert _run("protect", *words, "--add-margins") == 2
    (folder / "other.yaml").write_text(strict.replace("60", "4") + "linked: [spec.yaml]\n", encoding="utf-8")
    assert _run("protect", *words, "--add-margins") == 0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("measure: val", "measure: n"), ("{total: All}", "{}"), ("total: All", "total: All, open: [x]")],
)
def test_a_spec_tells_of_the_table_of_tauargus_that_it_is_used_with(folder: Path, right: str, wrong: str) -> None:
    (folder / "t.rda").write_text(
        '<SEPARATOR> ";"\ngeo "X"\n <RECODEABLE>\n <TOTCODE> "All"\nval\n <NUMERIC>\nst\n <STATUS>\n <SAFE> "S"\n'
        ' <UNSAFE> "U"\n <PROTECT> "P"\n',
        encoding="utf-8",
    )
    (folder / "t.tab").write_text('"All";90;S\n"x";20;U\n"y";30;S\n"z";40;S\n', encoding="utf-8")
    told = "dimensions: {geo: {total: All}}\nmeasure: val\nprimary: [{rule: given}]\nprotection: {width: 5}\n"
    words = ("--spec", folder / "spec.yaml", "--out", folder / "out.csv", "--certificate", folder / "c.json")
    for text, code in ((told, 0), (told.replace(right, wrong), 2)):
        (folder / "spec.yaml").write_text(text, encoding="utf-8")
        assert _run("protect", "--table", folder / "t.tab", *words) == code
