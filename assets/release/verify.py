"""The second look: every norm evaluated again on the candidate's own file, just before it is published.

It reads what was written, and of what wrote it (assets.release.gate, assets.release.blocks, quality.protection) it
shares only the reading of tables and of earlier releases: what the norms ask, what a shown value may stand for and
what can be computed of a hidden one are worked out here anew, by the auditor, which shares nothing with the protector.
Any finding stops the release. Belongs here: what must hold of any file that leaves the factory. Does not belong here:
mending anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from assets.release import evidence, history, verify_amounts
from assets.release.blocks import GEO, Block, Placed, Sum, Told, blocks_of, place, read_all
from assets.release.borders import load as load_borders
from assets.release.marts import Mart, suppliers
from assets.release.postcodes import overlapping, overlaps
from assets.release.publish import RECORD, Release, current, fingerprint, verify_files
from assets.release.views import revised, summed
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, quoted, warehouse
from quality.formulas import neutral_sql
from quality.norms import AmountNorms, Audience, Norms
from quality.protection import POSTCODES, DisclosureSpec, parse_spec

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.spec import Policy
    from quality.disclosure.table import Table

COPIES = "alle_bestanden_tonen_hetzelfde"
PLAIN_TYPES = r"VARCHAR|INTEGER|BIGINT|DOUBLE|DATE|BOOLEAN|DECIMAL\(\d+,\s*\d+\)"
IDENTIFYING = (
    r"bsn|pseudoniem|a_nummer|naam_persoon|voornam|geslachtsnaam|postcode|huisnummer|straat|geboorte|kvk|uuid|iban"
)
PERSONAL_TEXT = (
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",  # a pseudonym
    r"^[0-9]{8,12}$",  # BSN, KvK, vestiging, A-nummer
    r"^[1-9][0-9]{3} ?[A-Z]{2}( .*)?$",  # a postcode, with or without a house number
)


@dataclass(frozen=True)
class Finding:
    """Something that must not leave the factory: which check, which table, how many cells."""

    check: str
    table: str
    told: str


def verify(
    release: Release, settings: Settings, audience: Audience, norms: Norms, marts: Iterable[Mart]
) -> list[Finding]:
    """Evaluate every norm on a candidate; an empty list means that it may be published.

    Raises:
        ReleaseError: a file is not what the record says.
        NormsError: the audience has no norms.
        EvidenceError: what was released before cannot be told for sure.
    """
    verify_files(release)
    norms.steps(audience)
    record = release.record
    findings = list(_audience(record, settings, audience))
    specs = {mart.name: mart for mart in marts}
    with duckdb.connect(str(release.database), read_only=True) as connection:
        names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()]
        shown = {name for name, facts in record["tabellen"].items() if facts["staat"] != "ontbreekt"}
        unlike = sorted(set(names) ^ (shown | {"release_info"}))
        findings += [Finding("alle_tabellen_en_kolommen_beschreven", name, "niet als vermeld") for name in unlike]
        findings += [
            Finding("alleen_toegestane_doelgroep", name, f"staat niet in de overeenkomst van {audience}")
            for name in sorted(shown)
            if audience not in ("intern", "open") and name not in norms.doelgroepen[audience].tabellen
        ]
        for name in names:
            findings += _described(connection, name)
            findings += _personal(connection, name)
        ledger = Ledger(settings.paths.ledger)
        for name, periods in record["normen"].items():
            if name not in names:
                continue
            spec = (specs[name].disclosure if name in specs else None) or {}
            findings += _norms(name, periods, norms, ledger)
            for label, covered in periods.items():
                findings += _cells(connection, name, label, covered, audience, spec)
        unnormed = shown - set(record["normen"])
        for name in sorted(unnormed):
            if name not in specs or not specs[name].is_public:
                findings.append(Finding("normen_zijn_van_kracht", name, "geen norm, en niet uit openbare bronnen"))
        findings += _carried(connection, release, current(settings.paths, audience), shown)
    if not findings:  # a file that fails on sight is not worth the arithmetic
        findings += _copies(release)
        findings += _against_marts(release, settings, audience, specs)
        # a run looks twice: as a check, and just before publishing. The same file, past and norms give the same answer
        looked = (fingerprint(release.folder / RECORD), ledger.head(), norms.model_dump_json())
        if looked not in _seen:
            _seen.clear()
            _seen[looked] = list(_attacked(release, settings, audience, norms, specs, ledger))
        findings += _seen[looked]
    return findings


_seen: dict[tuple[str, tuple[int, str], str], list[Finding]] = {}
"""What the attack on the candidate that was last looked at came to."""


def _audience(record: Mapping[str, Any], settings: Settings, audience: Audience) -> Iterable[Finding]:
    if record["doelgroep"] != audience or record["voorbeeld"] != settings.sample:
        yield Finding("alleen_toegestane_doelgroep", "release_info", "doelgroep of voorbeeldmerk klopt niet")


def _described(connection: duckdb.DuckDBPyConnection, name: str) -> Iterable[Finding]:
    row = connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = ?", [name]).fetchone()
    columns = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE table_name = ?", [name]
    ).fetchall()
    bare = [column for column, _, comment in columns if not comment] + ([] if row and row[0] else ["de tabel"])
    odd = [column for column, kind, _ in columns if not re.fullmatch(PLAIN_TYPES, kind)]
    if bare:
        yield Finding("alle_tabellen_en_kolommen_beschreven", name, f"zonder beschrijving: {', '.join(bare)}")
    if odd:
        yield Finding("alle_tabellen_en_kolommen_beschreven", name, f"geen gewoon type: {', '.join(odd)}")


def _personal(connection: duckdb.DuckDBPyConnection, name: str) -> Iterable[Finding]:
    columns = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [name]
    ).fetchall()
    for column, kind in columns:
        if re.search(IDENTIFYING, column, re.IGNORECASE):
            yield Finding("geen_persoonsgegevens", name, f"kolom {column} heet als een persoonsgegeven")
        if kind == "VARCHAR" and name != "release_info":
            told = " OR ".join(f"regexp_full_match({quoted(column)}, {literal(form)})" for form in PERSONAL_TEXT)
            if found := _number(connection, f"SELECT count(*) FROM {quoted(name)} WHERE {told}"):
                yield Finding("geen_persoonsgegevens", name, f"kolom {column}: {found} waarden lijken op een nummer")


def _copies(release: Release) -> Iterable[Finding]:
    """Parquet and CSV hold the rows of the tables and nothing else; in CSV as text, formulas made harmless."""
    with duckdb.connect(str(release.database), read_only=True) as connection:
        names = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        for name in sorted(names):
            for file, table, copy in _pairs(connection, release.folder / name):
                unlike = f"SELECT count(*) FROM (({table} EXCEPT ALL {copy}) UNION ALL ({copy} EXCEPT ALL {table}))"
                try:
                    found = _number(connection, unlike)
                except duckdb.Error:
                    yield Finding(COPIES, name, f"{file} is niet te lezen als de tabel")
                    continue
                if found:
                    yield Finding(COPIES, name, f"{found} rijen van {file} en de tabel verschillen")
    beside = {path.stem for path in release.folder.iterdir() if path.suffix in (".csv", ".parquet")}
    yield from (Finding(COPIES, name, "hoort bij geen tabel") for name in sorted(beside - names))


def _pairs(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterable[tuple[str, str, str]]:
    """The files beside the database of a table: their name, and two queries that have to give the same rows."""
    table = quoted(path.name)
    parquet, text = (path.with_name(f"{path.name}.{ending}") for ending in ("parquet", "csv"))
    yield parquet.name, f"FROM {table}", f"FROM read_parquet({literal(str(parquet))})"
    kinds = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [path.name]
    ).fetchall()
    told = [neutral_sql(quoted(name)) if kind == "VARCHAR" else f"{quoted(name)}::VARCHAR" for name, kind in kinds]
    header = ", ".join(literal(name) for name, _ in kinds)
    rows = ", ".join(f"coalesce({value}, '')" for value in told)
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name, _ in kinds)
    read = (
        f"read_csv({literal(str(text))}, auto_detect = false, header = false, delim = ',', quote = '\"', "
        f"escape = '\"', columns = {{{types}}})"
    )
    yield (
        text.name,
        f"(SELECT {header} UNION ALL SELECT {rows} FROM {table})",
        f"SELECT coalesce(COLUMNS(*), '') FROM {read}",
    )


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


@dataclass(frozen=True)
class _Step:
    """One audience's norms, read from a label, and the least count above zero that it can be shown."""

    minimum: int
    base: int
    controlled: bool
    width: int
    share: float | None
    least: int

    @property
    def rounding(self) -> tuple[int, str]:
        """The base, and the method as the disclosure engine calls it."""
        return self.base, "controlled" if self.controlled else "conventional"


def _steps(label: str, audience: Audience) -> list[_Step]:
    """The norms of a label up to an audience; what is least shown is found by trying every count."""
    steps: list[_Step] = []
    shown: dict[int, int] = {}
    for item in label.split():
        who, told = item.split(":")
        least, base, method, width, share = told.split("/")
        minimum, step = int(least), int(base)
        if not steps:
            shown = {n: n for n in range(minimum, 40 * (minimum + step))}
        else:
            # the next audience is made from what this one sees: only what surely reaches its minimum stays
            surely = {value: min(n for n, v in shown.items() if v == value) for value in set(shown.values())}
            shown = {n: value for n, value in shown.items() if surely[value] >= minimum}
        smallest = min(shown)
        shown = {n: n if step == 1 else step * int(n / step + 0.5) for n in shown}
        group = None if share == "-" else float(share)
        steps.append(_Step(minimum, step, method == "sluitend", int(width), group, smallest))
        if who == audience:
            break
    return steps


def _norms(name: str, periods: Mapping[str, Sequence[str]], norms: Norms, ledger: Ledger) -> Iterable[Finding]:
    """The norms that the record names are the policy's, or those of the first release of the period."""
    own = " ".join(
        f"{who}:{n.minimum}/{n.afronding}/{n.afrondingsmethode}/{n.bescherming}/"
        + ("-" if n.groep_pct is None else f"{n.groep_pct:g}")
        for who, n in norms.chain()
    )
    first: dict[str, str] = {}
    others: dict[str, set[str]] = {}
    for event in ledger.events("release"):
        for table, labels in event.payload.get("normen", {}).items():
            for label, covered in labels.items():
                for period in covered:
                    others.setdefault(period, set()).add(label)
                    if table == name:
                        first.setdefault(period, label)
    for label, covered in periods.items():
        wrong = [
            p for p in covered if first.get(p, label) != label or (label != own and label not in others.get(p, ()))
        ]
        if wrong:
            yield Finding("normen_zijn_van_kracht", name, f"{len(wrong)} perioden onder een andere norm")


def _cells(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    label: str,
    covered: Sequence[str],
    audience: Audience,
    spec: Mapping[str, Any],
) -> Iterable[Finding]:
    """Rules that every row has to obey by itself."""
    step = _steps(label, audience)[-1]
    teller, amount = quoted(spec.get("count") or "teller"), spec.get("bedrag")
    here = f"periode IN ({', '.join(map(literal, covered))})"
    per = {rate.get("per", 1000) for rate in spec.get("rates", {}).values()} or {1000}
    rates = " OR ".join(f"abs(waarde - {n} * {teller}::DOUBLE / noemer) < 0.006" for n in sorted(per))
    rules = {
        "geen_kleine_aantallen": f"{teller} > 0 AND {teller} < {step.minimum} OR {teller} < 0",
        "aantallen_zijn_afgerond": f"{teller} % {step.base} <> 0",
        "geheim_toont_niets": f"""status NOT IN ('verstrekt', 'afgerond', 'geheim', 'onbekend', 'nvt')
            OR (status = 'geheim' AND ({teller} IS NOT NULL OR waarde IS NOT NULL))
            OR (status IN ('onbekend', 'nvt') AND waarde IS NOT NULL)
            OR (status = 'verstrekt' AND {step.base} > 1 AND {teller} <> 0)
            OR (status = 'afgerond' AND {step.base} = 1)""",
        "verhoudingen_uit_getoonde_aantallen": f"""waarde IS NOT NULL AND ({teller} IS NULL
            OR NOT (waarde = {teller} OR coalesce(noemer > 0 AND ({rates}), false)))""",
    }
    if amount:
        total = quoted(amount["kolom"])
        means = " OR ".join(f"abs(waarde - {n} * {total}::DOUBLE / {teller}) < 0.006" for n in sorted(per))
        rules["geheim_toont_niets"] = f"""status NOT IN ('verstrekt', 'afgerond', 'geheim', 'onbekend', 'nvt')
            OR (status IN ('geheim', 'onbekend', 'nvt') AND waarde IS NOT NULL)
            OR (status = 'geheim' AND {total} IS NOT NULL) OR ({total} IS NOT NULL AND {teller} IS NULL)"""
        rules["verhoudingen_uit_getoonde_aantallen"] = f"""waarde IS NOT NULL AND ({total} IS NULL
            OR NOT (waarde = {total} OR coalesce({teller} > 0 AND ({means}), false)))"""
        columns = {row[0] for row in connection.execute(f"DESCRIBE {quoted(name)}").fetchall()}
        if told := columns & set(amount["grootste"]):
            yield Finding("geheim_toont_niets", name, f"{len(told)} kolommen met grootste bijdragen")
    for check, rule in rules.items():
        if found := _number(connection, f"SELECT count(*) FROM {quoted(name)} WHERE {here} AND ({rule})"):
            yield Finding(check, name, f"{found} cellen")


def _parsed(specs: Mapping[str, Mart], names: Iterable[str]) -> dict[str, DisclosureSpec]:
    return {name: parse_spec(specs[name].disclosure) for name in names if name in specs}


def _carried(
    connection: duckdb.DuckDBPyConnection, release: Release, previous: Release | None, shown: Iterable[str]
) -> Iterable[Finding]:
    """What is said to come from an earlier release stands in the last one, row by row: it is not judged again."""
    carried = sorted(name for name in shown if "uit" in release.record["tabellen"][name])
    if carried and previous is not None:
        connection.execute(f"ATTACH {literal(str(previous.database))} AS vorige (READ_ONLY)")
    for name in carried:
        here, before = quoted(name), f"vorige.main.{quoted(name)}"
        try:
            other = previous is None or _number(
                connection,
                f"""SELECT (SELECT count(*) FROM (FROM {here} EXCEPT ALL FROM {before}))
                    + (SELECT count(*) FROM (FROM {before} EXCEPT ALL FROM {here}))""",
            )
        except duckdb.Error:  # it was not there, or with other columns
            other = True
        if other:
            yield Finding("getoond_volgt_uit_de_norm", name, "niet zoals in de levering waar de tabel uit zou komen")


def _against_marts(
    release: Release, settings: Settings, audience: Audience, specs: Mapping[str, Mart]
) -> Iterable[Finding]:
    """No shown count differs from what the norm makes of its true count; nothing of the truth is told."""
    record = release.record
    with warehouse(settings.paths, settings.resources, read_only=True) as connection:
        connection.execute(f"ATTACH {literal(str(release.database))} AS uit (READ_ONLY)")
        fresh = [name for name in record["normen"] if "uit" not in record["tabellen"][name]]
        for name, spec in _parsed(specs, fresh).items():
            teller = quoted(spec.count or "")
            keys = [spec.geo, "indeling_jaar", *spec.by, *spec.total_of]
            same = " AND ".join(f"u.{quoted(key)} = m.{quoted(key)}" for key in dict.fromkeys(keys))
            for label, covered in record["normen"][name].items():
                step = _steps(label, audience)[-1]
                grid = f"floor(m.{teller} / {step.base} + 0.5) * {step.base}"
                off = f"abs(u.{teller} - m.{teller}) >= {step.base}" if step.controlled else f"u.{teller} <> {grid}"
                wrong = _number(
                    connection,
                    f"""SELECT count(*) FROM uit.main.{quoted(name)} AS u
                    LEFT JOIN marts.{quoted(name)} AS m ON {same}
                    WHERE u.{teller} IS NOT NULL AND u.periode IN ({", ".join(map(literal, covered))})
                        AND (m.{teller} IS NULL OR {off} OR m.{teller} > 0 AND m.{teller} < {step.least})""",
                )
                if wrong:
                    yield Finding("getoond_volgt_uit_de_norm", name, f"{wrong} cellen")
            if spec.bedrag is not None:
                total = quoted(spec.bedrag.kolom)
                if wrong := _number(
                    connection,
                    f"""SELECT count(*) FROM uit.main.{quoted(name)} AS u LEFT JOIN marts.{quoted(name)} AS m ON {same}
                    WHERE u.{total} IS NOT NULL AND u.{total} IS DISTINCT FROM m.{total}""",
                ):
                    yield Finding("getoond_volgt_uit_de_norm", name, f"{wrong} bedragen")
                continue  # what a mean divides by is the count that is shown
            for rate in spec.rates.values():
                pairs = ", ".join(f"({literal(own)}, {literal(figure)})" for own, figure in rate.cbs.items())
                foreign = _number(
                    connection,
                    f"""SELECT count(*) FROM uit.main.{quoted(name)} AS u
                    LEFT JOIN (VALUES {pairs or "('', '')"}) AS n(indicator, cijfer) ON n.indicator = u.indicator
                    WHERE u.{quoted(rate.denominator)} IS NOT NULL AND NOT EXISTS (
                        SELECT 1 FROM raw_cbs.kerncijfers_wijken_en_buurten AS c
                        WHERE c.indicator_sleutel = n.cijfer AND c.regio_code = u.{quoted(spec.geo)}
                        AND c.jaar = u.indeling_jaar AND round(c.waarde) = u.{quoted(rate.denominator)})""",
                )
                if foreign:
                    yield Finding("noemers_zijn_van_het_cbs", name, f"{foreign} cellen")


def _attacked(
    release: Release,
    settings: Settings,
    audience: Audience,
    norms: Norms,
    specs: Mapping[str, Mart],
    ledger: Ledger,
) -> Iterator[Finding]:
    """What anyone can compute of each hidden count, block by block, and whether the public evidence says so.

    A block that shows exactly what the release before it shows was judged then, with all that was known.
    """
    record = release.record
    fresh = [name for name in record["normen"] if "uit" not in record["tabellen"][name]]
    wanted = _parsed(specs, fresh)
    if not wanted:
        return
    whose = suppliers(settings, norms, [specs[name] for name in wanted])
    columns = {name: _supplied(specs[name], spec, whose, norms) for name, spec in wanted.items()}
    previous = current(settings.paths, audience)
    certified = dict(evidence.unpack(release))
    before = {} if previous is None else dict(evidence.unpack(previous))
    own = history.seal(settings)
    past = history.History(settings, ledger, own)
    sealed = history.waiting(settings.paths, own, release)
    revision = None if norms.herziening_maximaal == "geen" else float(norms.herziening_maximaal)
    with warehouse(settings.paths, settings.resources, read_only=True) as connection:
        connection.execute(f"ATTACH {literal(str(release.database))} AS uit (READ_ONLY)")
        lowest = _lowest(settings, wanted, norms)
        shown = {n: read_all(connection, f"uit.main.{quoted(n)}", n, s, lowest[n]) for n, s in wanted.items()}
        truth = {n: read_all(connection, f"marts.{quoted(n)}", n, s, lowest[n]) for n, s in wanted.items()}
        true = {block.id: block for block in blocks_of(truth)}
        borders = load_borders(settings, connection)
        levels = past.levels.union(*(spec.levels for spec in wanted.values()))
        places = overlaps(settings) if levels & set(POSTCODES) else {}
        blocks = list(blocks_of(shown))

        def known(block: Block, label: str) -> tuple[Sequence[Told], Sequence[Sum]]:
            """Earlier versions of a block that the audience knows, and what ties those in other borders to it."""
            same = f"{block.telling}/{block.periode}/"
            about = [one for one in true.values() if one.id.startswith(same)]
            others = [
                history.Fresh(audience, _named(one, own.named(true[one.id])), *history.norms_of(label, audience))
                for one in blocks
                if one.id.startswith(same) and one.id != block.id
            ]
            readers = {audience: _known_to(audience, label, past.versions, norms)}
            told, sums = history.known_told(past, readers, block, about, borders, others)
            return told[audience], sums

        for block in blocks:
            if all(np.isnan(part.count).all() and not part.is_hidden.any() for part in block.parts):
                continue
            name = block.parts[0].mart
            files = certified.get(block.id)
            if files is None or not _same_cells(block, files):
                yield Finding("bewijs_klopt", name, f"geen bewijs van wat over {block.periode} getoond wordt")
                continue
            true_block = own.named(true[block.id])
            block = _named(block, true_block)
            label = next(k for k, covered in record["normen"][name].items() if block.periode in covered)
            step = _steps(label, audience)[-1]
            shape = history.shapes(true_block, lowest)
            kept = sealed.get(block.id)
            was_shown = kept is None and any(
                version.covers(shape) and version.normen == label and _shows(version.block(block), block)
                for version in past.versions.get(audience, {}).get(block.id, [])
            )
            if was_shown and files == before.get(block.id):
                continue
            if not was_shown and (kept is None or not kept.covers(shape) or not _shows(kept.block(block), block)):
                yield Finding("bewijs_klopt", name, f"het verzegelde bewijs over {block.periode} is van iets anders")
                continue
            try:
                problem = _problem(block, step, files)
                if problem is None and block.is_amount:
                    assert norms.bedragen is not None
                    counts = next(one for one in blocks if one.id == block.id.replace(block.telling, block.counted, 1))
                    counts = _named(counts, own.named(true[counts.id]))
                    told, sums = known(counts, label)
                    _, tables, earlier, facts = _joint(
                        counts, told, sums, _cbs(connection, counts, true), revision, places
                    )
                    beside = verify_amounts.Beside(
                        counts, tables, earlier, facts, step.rounding, step.least, float(step.width)
                    )
                    problem = verify_amounts.problem(
                        block,
                        true_block,
                        beside,
                        [one for version in known(block, label)[0] for one in _as_earlier(version, norms.bedragen)],
                        norms.bedragen,
                        places,
                        suspects=norms.aanvaller.vermoedt_klein,
                        time_limit=norms.tijdslimiet_s,
                    )
                elif problem is None:
                    problem = _computed(
                        block,
                        true[block.id],
                        step,
                        *known(block, label),
                        _cbs(connection, block, true),
                        revision,
                        places,
                        norms,
                        # whoever comes later in the chain sees what follows from the first view
                        columns if label.startswith(f"{audience}:") else {},
                    )
            except FactoryError as error:
                problem = f"{type(error).__name__}"
            if problem is not None:
                yield Finding("geheim_is_niet_uit_te_rekenen", name, f"{block.periode}: {problem}")


def _named(block: Block, true: Block) -> Block:
    """A block as shown, whose cells bear the names of the figures behind them."""
    of = {(part.mart, key): name for part in true.parts for key, name in zip(part.keys, part.names, strict=True)}
    parts = (replace(part, names=tuple(of[part.mart, key] for key in part.keys)) for part in block.parts)
    return replace(block, parts=tuple(parts))


def _shows(one: Block, other: Block) -> bool:
    """Whether a block shows all that another shows, cell by cell, and hides what it hides."""
    seen = {(p.mart, key): cell for p in one.parts for key, *cell in zip(p.keys, p.count, p.is_hidden, strict=True)}
    return all(
        np.array_equal(np.array([seen.get((part.mart, key), (-1.0, False)) for key in part.keys], dtype=float),
                       np.column_stack([part.count, part.is_hidden]).astype(float), equal_nan=True)
        for part in other.parts
    )  # fmt: skip


def _known_to(reader: Audience, label: str, released: Iterable[Audience], norms: Norms) -> list[Audience]:
    """Whose releases a reader knows: its own, and those to all that stand after it; `open` stands last."""
    foreseen = [item.partition(":")[0] for item in label.split()]
    order = dict.fromkeys([*foreseen, *norms.doelgroepen, *released])
    after = [*(who for who in order if who != "open"), "open"]
    known = after[after.index(reader) :]
    if reader not in ("intern", "open") and not norms.aanvaller.partners:
        known = [who for who in known if who in (reader, "intern", "open")]
    return known


def _lowest(settings: Settings, wanted: Mapping[str, DisclosureSpec], norms: Norms) -> dict[str, Any]:
    height = {"BU": 0, "WK": 1, "P6": 0, "PC": 1, "GM": 2}
    return {
        name: max(norms.laagste_niveau.get(name, spec.lowest), spec.lowest, key=height.__getitem__)
        for name, spec in wanted.items()
    }


def _rules(step: _Step, block: Block) -> Policy:
    """The attacker and the norm that he knows, as the auditor takes them."""
    from quality.disclosure.spec import Policy

    primary: list[dict[str, Any]] = [{"rule": "frequency", "minimum": step.least}]
    if step.share is not None and not block.is_amount:
        flats = sorted({name for part in block.parts for name in part.spec.total_of})
        primary += [{"rule": "group_disclosure", "dimension": name, "share": step.share} for name in flats]
    method = "controlled" if step.controlled else "conventional"
    rounding = {"base": step.base, "method": method} if step.base > 1 and not block.is_amount else None
    return Policy.model_validate({"primary": primary, "rounding": rounding, "protection": {"width": step.width}})


def _same_cells(block: Block, files: Mapping[str, str]) -> bool:
    """Whether the evidence is about these very cells: each shown value, and nothing else."""
    shown: list[tuple[str, ...]] = []
    for entry in place(block):
        for codes, value in zip(entry.table.codes, entry.table.value, strict=True):
            names = [d.codes[code] for d, code in zip(entry.table.dimensions, codes, strict=True)]
            shown.append((*names, "" if np.isnan(value) else str(int(value))))
    told: list[tuple[str, ...]] = []
    for name, text in files.items():
        if name.endswith(".csv") and not name.endswith(".regio.csv"):
            told += [tuple(line.split(",")[:-1]) for line in text.splitlines()[1:]]
    return sorted(told) == sorted(shown)


def _problem(block: Block, step: _Step, files: Mapping[str, str]) -> str | None:
    """What does not hold of the public certificate: from the published values alone, as anyone can compute them."""
    from quality.disclosure.certificate import check_certificate

    certificate = json.loads(files["certificaat.json"])
    if not block.is_amount and (certificate["minimum_width"] or 0) < step.width:
        return "het bewijs belooft minder dan de norm vraagt"
    system, rounded, result = evidence.audited(block, _rules(step, block))
    if wrong := check_certificate(certificate, system, rounded, result):
        return f"{len(wrong)} intervallen zijn nauwer dan het bewijs zegt"
    return None


def _joint(
    block: Block,
    told: Sequence[Told],
    sums: Sequence[Sum],
    public: Sequence[tuple[str, float, float]],
    revision: float | None,
    overlaps: Mapping[str, Collection[str]],
) -> tuple[list[Placed], list[Table], list[Earlier], list[Fact]]:
    """The tables of a block, earlier versions, and all that ties their cells."""
    from quality.disclosure.facts import Fact

    placed = place(block)
    tables = [entry.table for entry in placed]
    earlier = [one for version in told for one in _as_earlier(version)]
    every = [*tables, *(one.table for one in earlier)]
    facts: list[Fact] = [*revised(every, revision), *summed(every, sums, revision)]
    for code, low, high in public:
        for number, table in enumerate(tables):
            geo = table.dimensions[0]
            if code in {geo.codes[place] for place in table.codes[:, 0]}:
                at = {} if code == geo.codes[0] else {GEO: code}
                facts.append(Fact(((number, at, 1.0),), low, high, "CBS"))
                break
    parts, sums_of_parts = overlapping(tables, earlier, overlaps)
    return placed, tables, [*earlier, *parts], [*facts, *sums_of_parts]


def _computed(
    block: Block,
    true: Block,
    step: _Step,
    told: Sequence[Told],
    sums: Sequence[Sum],
    public: Sequence[tuple[str, float, float]],
    revision: float | None,
    overlaps: Mapping[str, Collection[str]],
    norms: Norms,
    columns: Mapping[str, Mapping[str, set[str]]],
) -> str | None:
    """What comes out when everything that the audience ever saw and what CBS publishes is put together."""
    from quality.disclosure.auditor import Demand, audit
    from quality.disclosure.engine import joint_system
    from quality.disclosure.insiders import audit_coalitions

    rules = _rules(step, block)
    bold = rules.attacker.model_copy(update={"suspects_primary": norms.aanvaller.vermoedt_klein})
    rules = rules.model_copy(update={"attacker": bold})
    placed, tables, earlier, facts = _joint(block, told, sums, public, revision, overlaps)
    # rounded or not: a rounded table need not add up
    system, is_current = joint_system(tables, earlier, facts, rules)
    rounded = np.zeros(system.cells, dtype=bool)
    for table, cells in zip(tables, system.cell_of, strict=False):
        rounded[cells] = (step.base > 1) & (np.nan_to_num(table.value) > 0)
    asked = is_current.copy()
    for one, cells in zip(earlier, system.cell_of[len(tables) :], strict=True):
        asked[cells[np.isnan(one.table.value)]] |= bool(one.width)  # what was hidden stays so
    demand = replace(Demand.none(system.cells), width=np.where(system.hidden & asked, float(step.width), np.nan))
    result = audit(system, rules, rounded=rounded, demand=demand, time_limit=norms.tijdslimiet_s)
    if not result.passed:
        return f"{len(result.failing)} geheime cellen zijn nauwer te berekenen dan de norm"
    truth = system.value.copy()
    knows: dict[str, list[Any]] = {}
    for entry, real, cells in zip(placed, place(true), system.cell_of, strict=False):
        truth[cells] = real.table.value
        part = block.parts[entry.part]
        for who, own in columns.get(part.mart, {}).items():
            mine = [row for row, at in enumerate(entry.rows) if _from(part.spec, part.keys[at], own)]
            knows.setdefault(who, []).append(cells[mine])
    unsafe = system.hidden & is_current & (truth > 0) & (truth < step.least)
    strict = replace(Demand.none(system.cells), width=np.where(unsafe, float(step.width), np.nan))
    known = [np.unique(np.concatenate(cells)) for _, cells in sorted(knows.items())]
    learned = audit_coalitions(system, rules, truth, known, strict, rounded=rounded, time_limit=norms.tijdslimiet_s)
    return f"{len(learned)} leveranciers rekenen te veel uit met wat zij zelf leverden" if learned else None


def _supplied(mart: Mart, spec: DisclosureSpec, whose: Mapping[str, str], norms: Norms) -> dict[str, set[str]]:
    """Per supplier that is reckoned with the columns that come from its registers."""
    named = norms.aanvaller.leveranciers
    registers = [name.split(".", 1) for name in mart.sources]
    found: dict[str, set[str]] = {}
    for column in (str(spec.count), *spec.total_of):
        own = [spec.uit[column]] if spec.uit else [t for schema, t in registers if schema not in _NOT_DELIVERED]
        for register in own:
            if named == "allen" or (named != "geen" and whose[register] in named):
                found.setdefault(whose[register], set()).add(column)
    return found


_NOT_DELIVERED = ("raw_cbs", "raw_leveringen")


def _from(spec: DisclosureSpec, key: Sequence[str], columns: Collection[str]) -> bool:
    """Whether a count, by the classifications that are not at their total, comes from these columns alone."""
    split = {name for (name, total), code in zip(spec.total_of.items(), key[1:], strict=True) if code != total}
    return {str(spec.count), *split} <= set(columns)


def _as_earlier(one: Told, amounts: AmountNorms | None = None) -> list[Earlier]:
    """A version as the engine takes it; of amounts, which are not rounded, with the norms on these."""
    from quality.disclosure.engine import Earlier
    from quality.disclosure.spec import Rounding

    method = "controlled" if one.norms.afrondingsmethode == "sluitend" else "conventional"
    base = one.norms.afronding if amounts is None else 1
    width = one.norms.bescherming if amounts is None else amounts.bescherming
    found = []
    for entry in place(one.block):
        values = np.nan_to_num(entry.table.value)
        found.append(
            Earlier(
                entry.table,
                one.release,
                None,
                (values > 0) & (base > 1),
                float(width) if one.is_own else 0.0,
                Rounding(base=base, method=method) if base > 1 else None,
                one.least,
            )
        )
    return found


def _cbs(
    connection: duckdb.DuckDBPyConnection, block: Block, true: Mapping[str, Block]
) -> list[tuple[str, float, float]]:
    """What CBS tells of the regions, with the room that is declared; a figure that the truth does not fit is none."""
    counts = {
        key[0]: float(n)
        for part in true[block.id].parts
        for key, n, whole in zip(part.keys, part.count, part.is_total, strict=True)
        if whole
    }
    found = []
    for figure in {figure for part in block.parts for figure in part.spec.cbs}:
        if figure.telling != block.telling or not (figure.maand is None or block.periode[5:]):
            continue
        year, month = int(block.periode[:4]), int(block.periode[5:] or 0)
        rows = connection.execute(
            "SELECT DISTINCT regio_code::VARCHAR, waarde::DOUBLE, jaar FROM raw_cbs.kerncijfers_wijken_en_buurten "
            "WHERE indicator_sleutel = ? AND jaar BETWEEN ? AND ? AND waarde IS NOT NULL",
            [figure.indicator, year - 1, year + 2],
        ).fetchall()
        for code, value, at in rows:
            # months between figure and count, as far as a figure is of one month
            apart = abs(12 * (year - at) + (0 if figure.maand is None else month - figure.maand))
            if apart not in (0, 12) or (apart and figure.verandering is None):
                continue
            half = figure.afronding / 2 + figure.tolerantie + (figure.verandering or 0 if apart else 0)
            low = -np.inf if figure.soort == "hoogstens" else max(value - half, 0.0)
            if code in counts and low <= counts[code] <= value + half:
                found.append((code, low, value + half))
    return sorted(found)


def told(findings: Sequence[Finding]) -> str:
    """Findings in one line for a message: counts and names only."""
    return "; ".join(f"{item.check} ({item.table}: {item.told})" for item in findings)
