"""The second look: every norm evaluated again on the candidate's own file, just before it is published.

It reads what was written, and shares no code with what wrote it (assets.release.gate, quality.protection): the
meaning of a shown value is worked out here anew, by trying every count. Any finding stops the release. Belongs
here: what must hold of any file that leaves the factory. Does not belong here: mending anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from assets.release.gate import Mart
from assets.release.publish import Release, verify_files
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, quoted, warehouse
from quality.norms import Audience, Norms

CHECKS = (
    "bestanden_zijn_ongewijzigd",
    "alleen_toegestane_doelgroep",
    "alle_tabellen_en_kolommen_beschreven",
    "geen_persoonsgegevens",
    "normen_zijn_van_kracht",
    "geen_kleine_aantallen",
    "aantallen_zijn_afgerond",
    "geheim_toont_niets",
    "verhoudingen_uit_getoonde_aantallen",
    "totalen_uit_getoonde_delen",
    "getoond_volgt_uit_de_norm",
)
"""What is asserted of a candidate; a finding names the one that does not hold."""

PLAIN_TYPES = r"VARCHAR|INTEGER|BIGINT|DOUBLE|DATE|BOOLEAN|DECIMAL\(\d+,\s*\d+\)"
IDENTIFYING = (
    r"bsn|pseudoniem|a_nummer|naam_persoon|voornam|geslachtsnaam|postcode|huisnummer|straat|geboorte|kvk|uuid|iban"
)
PERSONAL_TEXT = (
    r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",  # a pseudonym
    r"^[0-9]{8,12}$",  # BSN, KvK, vestiging, A-nummer
    r"^[1-9][0-9]{3} ?[A-Z]{2}( .*)?$",  # a postcode, with or without a house number
)
SUMMED = ("BU", "WK", "GM")


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
        for name in names:
            findings += _described(connection, name)
            findings += _personal(connection, name)
        ledger = Ledger(settings.paths.ledger)
        for name, periods in record["normen"].items():
            spec = (specs[name].disclosure if name in specs else None) or {}
            findings += _norms(name, periods, norms, ledger)
            for label, covered in periods.items():
                findings += _cells(connection, name, label, covered, audience, spec)
        unnormed = shown - set(record["normen"])
        for name in sorted(unnormed):
            if name in specs and not specs[name].is_public:
                findings.append(Finding("normen_zijn_van_kracht", name, "geen norm, en niet uit openbare bronnen"))
        findings += _totals(connection, record, norms, audience, specs)
    findings += _against_marts(release, settings, audience, specs)
    return findings


def _audience(record: Mapping[str, Any], settings: Settings, audience: Audience) -> Iterable[Finding]:
    if record["doelgroep"] != audience or record["voorbeeld"] != settings.sample:
        yield Finding("alleen_toegestane_doelgroep", "release_info", "doelgroep of voorbeeldmerk klopt niet")
    if audience == "open" and not settings.sample:
        yield Finding("alleen_toegestane_doelgroep", "release_info", "alleen de voorbeeldfabriek levert open")


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


def _number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0


def _norms(name: str, periods: Mapping[str, Sequence[str]], norms: Norms, ledger: Ledger) -> Iterable[Finding]:
    """The norms that the record names are the policy's, or those of the period's first release."""
    own = " ".join(f"{who}:{step.minimum}/{step.afronding}" for who, step in norms.chain())
    first: dict[str, str] = {}
    for event in ledger.events("release"):
        for label, covered in event.payload.get("normen", {}).get(name, {}).items():
            first |= {period: label for period in covered if period not in first}
    for label, covered in periods.items():
        wrong = [p for p in covered if first.get(p, label) != label or (p not in first and not label.startswith(own))]
        if wrong:
            yield Finding("normen_zijn_van_kracht", name, f"{len(wrong)} perioden onder een andere norm")


def _image(label: str, audience: Audience) -> tuple[dict[int, int | None], int, int]:
    """What every small count is shown as under a chain of norms, with the audience's minimum and base."""
    steps: list[tuple[int, int]] = []
    for item in label.split()[:-1]:
        who, _, numbers = item.partition(":")
        first, _, second = numbers.partition("/")
        steps.append((int(first), int(second)))
        if who == audience:
            break
    reach = 4 * max(least + base for least, base in steps)
    image: dict[int, int | None] = {count: count for count in range(reach)}
    for least, base in steps:
        lowest: dict[int | None, int] = {}
        for count, value in image.items():
            lowest.setdefault(value, count)
        for count, value in image.items():
            if value is not None and value > 0:
                image[count] = None if lowest[value] < least else base * int(value / base + 0.5)
    least, base = steps[-1]
    return image, least, base


def _cells(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    label: str,
    covered: Sequence[str],
    audience: Audience,
    spec: Mapping[str, Any],
) -> Iterable[Finding]:
    """Rules that every row has to obey by itself."""
    _, least, base = _image(label, audience)
    teller = quoted(spec.get("count") or "teller")
    here = f"periode IN ({', '.join(map(literal, covered))})"
    per = {rate["per"] for rate in spec.get("rates", {}).values()} or {1000}
    rates = " OR ".join(f"abs(waarde - {n} * {teller}::DOUBLE / noemer) < 0.006" for n in sorted(per))
    rules = {
        "geen_kleine_aantallen": f"{teller} > 0 AND {teller} < {least} OR {teller} < 0",
        "aantallen_zijn_afgerond": f"{teller} % {base} <> 0",
        "geheim_toont_niets": f"""status NOT IN ('verstrekt', 'afgerond', 'geheim', 'onbekend', 'nvt')
            OR (status = 'geheim' AND ({teller} IS NOT NULL OR waarde IS NOT NULL OR geheime_delen <> 0))
            OR (status IN ('onbekend', 'nvt') AND waarde IS NOT NULL)
            OR (status = 'verstrekt' AND {teller} <> 0)""",
        "verhoudingen_uit_getoonde_aantallen": f"""waarde IS NOT NULL AND ({teller} IS NULL
            OR NOT (waarde = {teller} OR coalesce(noemer > 0 AND ({rates}), false)))""",
    }
    for check, rule in rules.items():
        if found := _number(connection, f"SELECT count(*) FROM {quoted(name)} WHERE {here} AND ({rule})"):
            yield Finding(check, name, f"{found} cellen")


def _totals(
    connection: duckdb.DuckDBPyConnection,
    record: Mapping[str, Any],
    norms: Norms,
    audience: Audience,
    specs: Mapping[str, Mart],
) -> Iterable[Finding]:
    """Every shown total follows from the shown parts, so that it tells nothing that they do not."""
    for name, periods in record["normen"].items():
        spec = (specs[name].disclosure if name in specs else None) or {}
        total_of: dict[str, str] = spec.get("total_of", {})
        teller, code = quoted(spec.get("count") or "teller"), quoted(spec.get("geo") or "regio_code")
        others = [other for other in record["normen"] if other != name] if total_of else []
        for label, covered in periods.items():
            image, _, base = _image(label, audience)
            substitute = (1 + max(count for count, value in image.items() if value is None)) / 2
            lowest = label.rpartition(":")[2]
            parts = ", ".join(map(literal, (lowest, *(["ONB"] if lowest != "GM" else []))))
            keys = [key for key in spec.get("by", ("periode", "indicator")) if key not in total_of]
            dims = [quoted(key) for key in total_of]
            leaf = " AND ".join(f"{quoted(k)} <> {literal(v)}" for k, v in total_of.items()) or "true"
            same = " AND ".join(f"d.{quoted(key)} IS NOT DISTINCT FROM m.{quoted(key)}" for key in keys)
            fits = "".join(
                f" AND (m.{quoted(k)} = {literal(v)} OR m.{quoted(k)} = d.{quoted(k)})" for k, v in total_of.items()
            )
            here = f"periode IN ({', '.join(map(literal, covered))})"
            is_part = f"(regio_niveau IN ({parts}) AND {leaf})"
            taken = " UNION ALL ".join(
                f"SELECT periode, {code} AS code, indicator, {teller} AS teller FROM {quoted(other)}"
                for other in others
            )
            adopted = "false"
            if taken and dims:
                is_total = " AND ".join(f"m.{quoted(k)} = {literal(v)}" for k, v in total_of.items())
                adopted = f"""({is_total} AND EXISTS (SELECT 1 FROM ({taken}) AS o WHERE o.periode = m.periode
                    AND o.code = m.{code}
                    AND split_part(o.indicator, '_per_1', 1) = split_part(m.indicator, '_per_1', 1)
                    AND o.teller = m.{teller}))"""
            wrong = _number(
                connection,
                f"""WITH m AS (SELECT *, rowid AS rij FROM {quoted(name)} WHERE {here}),
                    d AS (SELECT * FROM m WHERE {is_part}),
                    s AS (SELECT m.rij, count(*) AS delen, sum(coalesce(d.{teller}, {substitute})) AS som,
                        {substitute} * count(*) FILTER (d.{teller} IS NULL) AS aangenomen,
                        count(*) FILTER (d.{teller} IS NULL) AS geheim
                    FROM m JOIN d ON {same}{fits} AND CASE m.regio_niveau
                        WHEN 'GM' THEN right(m.{code}, 4) = regexp_extract(d.{code}, '[0-9]{{4}}')
                        WHEN 'WK' THEN right(m.{code}, 6) = substr(d.{code}, 3, 6)
                        ELSE m.{code} = d.{code} END
                    GROUP BY m.rij)
                SELECT count(*) FROM m LEFT JOIN s USING (rij)
                WHERE m.{teller} IS NOT NULL AND NOT {is_part} AND NOT {adopted} AND NOT coalesce(
                    m.{teller} = floor(s.som / {base} + 0.5) * {base} AND m.geheime_delen = s.geheim
                    AND 100 * s.aangenomen <= {norms.maximum_geschat_pct} * s.som, false)""",
            )
            if wrong and "uit" not in record["tabellen"][name]:
                yield Finding("totalen_uit_getoonde_delen", name, f"{wrong} totalen")


def _against_marts(
    release: Release, settings: Settings, audience: Audience, specs: Mapping[str, Mart]
) -> Iterable[Finding]:
    """No shown part differs from what the norm makes of its true count; nothing of the truth is told."""
    record = release.record
    with warehouse(settings.paths, settings.resources, read_only=True) as connection:
        connection.execute(f"ATTACH {literal(str(release.database))} AS uit (READ_ONLY)")
        for name, periods in record["normen"].items():
            if "uit" in record["tabellen"][name] or name not in specs:
                continue
            spec = specs[name].disclosure or {}
            teller = quoted(spec.get("count") or "teller")
            keys = [spec.get("geo") or "regio_code", "indeling_jaar", *spec.get("by", ()), *spec.get("total_of", {})]
            same = " AND ".join(f"u.{quoted(key)} = m.{quoted(key)}" for key in dict.fromkeys(keys))
            leaf = "".join(f" AND m.{quoted(k)} <> {literal(v)}" for k, v in spec.get("total_of", {}).items())
            for label, covered in periods.items():
                image, _, base = _image(label, audience)
                lowest = label.rpartition(":")[2]
                small = ", ".join(f"({count}, {value})" for count, value in image.items() if value is not None)
                wrong = _number(
                    connection,
                    f"""WITH beeld(n, waarde) AS (VALUES {small})
                    SELECT count(*) FROM uit.main.{quoted(name)} AS u
                    LEFT JOIN marts.{quoted(name)} AS m ON {same}
                    WHERE u.{teller} IS NOT NULL AND u.periode IN ({", ".join(map(literal, covered))})
                        AND u.regio_niveau IN ('{lowest}', 'ONB'){leaf}
                        AND (m.{teller} IS NULL OR CASE WHEN m.{teller} < {len(image)}
                            THEN NOT EXISTS (SELECT 1 FROM beeld WHERE n = m.{teller} AND waarde = u.{teller})
                            ELSE abs(u.{teller} - m.{teller}) > {base} END)""",
                )
                if wrong:
                    yield Finding("getoond_volgt_uit_de_norm", name, f"{wrong} delen")


def told(findings: Sequence[Finding]) -> str:
    """Findings in one line for a message: counts and names only."""
    return "; ".join(f"{item.check} ({item.table}: {item.told})" for item in findings)
