"""A small factory with hand-made marts: two municipalities, five wijken, eighteen buurten."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import minisign
import pytest
import yaml

from assets.models.runner import text_of
from assets.release.assets import release_candidate
from assets.release.candidate import build_candidate
from assets.release.marts import read_marts
from assets.release.proposals import Filed, approve, propose
from assets.release.publish import Release
from datafabriek.config import Settings, load_settings
from datafabriek.ledger import Ledger
from quality.norms import load_norms
from quality.privacy.approvals import sign

PASSWORD = "een lang wachtwoord"
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)

BUURTEN = [f"BU1916{w:02}{b:02}" for w in range(3) for b in range(4)] + [
    f"BU0518{w:02}{b:02}" for w in range(2) for b in range(3)
]
SPEC = {
    "policy": "frequentie",
    "telling": {"bijstand": ["bijstand_aantal", "bijstand_aantal_per_1000_inwoners"]},
    "count": "teller",
    "rates": {
        "waarde": {
            "numerator": "teller",
            "denominator": "noemer",
            "per": 1000,
            "cbs": {
                "bijstand_aantal_per_1000_inwoners": "aantal_inwoners",
                "zzp_vestigingen_aantal_per_1000_inwoners": "aantal_inwoners",
            },
        }
    },
    "geo": "regio_code",
    "levels": ["BU", "WK", "GM"],
    "by": ["periode", "indicator"],
}
ZZP_SPEC = SPEC | {"telling": {"vestigingen": ["zzp_vestigingen_aantal", "zzp_vestigingen_aantal_per_1000_inwoners"]}}
SECTOR_SPEC = ZZP_SPEC | {
    "levels": ["WK", "GM"],
    "telling": {"vestigingen": ["zzp_vestigingen_aantal"]},
    "total_of": {"sector_code": "T001081"},
}

NORMS = """
versie: "toets-1"
vastgesteld_op: 2026-01-01
vastgesteld_door: de toets
doelgroepen:
  intern: {minimum: 5, afronding: 5, bescherming: 3}
  open: {minimum: 10, afronding: 5, bescherming: 5}
herziening_maximaal: geen
kwaliteit: {onbekende_buurt_pct: 20}
"""


def _values(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as SQL, told in one statement: bound one by one they take many times as long."""
    return ", ".join(f"({', '.join('NULL' if x is None else repr(x) for x in row)})" for row in rows)


@dataclass
class Factory:
    """A factory in a folder, with marts that a test sets from counts per buurt."""

    folder: Path
    settings: Settings
    now: datetime = NOW
    specs: dict[str, Any] = field(default_factory=dict)
    extra_parents: dict[str, list[str]] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings.paths.ledger)

    def norms(self, text: str) -> None:
        (self.folder / "policy" / "normen.yaml").write_text(text)

    def bijstand(
        self,
        counts: Mapping[str, Mapping[str, int | None]],
        unknown: int = 0,
        year: int = 2020,
        became: Mapping[str, str | Mapping[str, int]] | None = None,
    ) -> None:
        """Write the mart of counts per period and buurt; buurten that are left out count 20.

        `became` says what became of codes in the borders of `year`: another code, or several with their counts.
        """
        leaves = [(period, code, given.get(code, 20)) for period, given in counts.items() for code in BUURTEN] + [
            (period, f"ONB{gm}", unknown) for period in counts for gm in ("1916", "0518")
        ]
        moved = []
        for period, code, count in leaves:
            now = (became or {}).get(code, code)
            moved += [(period, now, count)] if isinstance(now, str) else [(period, at, n) for at, n in now.items()]
        self.specs["bijstand_per_regio"] = SPEC
        with self._connect() as connection:
            self._write(connection, "bijstand_per_regio", "bijstand", moved, year)
            self.manifest(connection)

    def zzp(self, counts: Mapping[str, int], sectors: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Write zzp per buurt, and per wijk and sector; a wijk that no sector names has all in sector A."""
        leaves = [("2020", code, counts.get(code, 20)) for code in BUURTEN]
        leaves += [("2020", f"ONB{gm}", 0) for gm in ("1916", "0518")]
        self.specs |= {"zzp_per_regio": ZZP_SPEC, "zzp_per_sector": SECTOR_SPEC}
        per_wijk: dict[str, int] = {}
        for _, code, count in leaves:
            wijk = "WK" + code[2:8] if code.startswith("BU") else code
            per_wijk[wijk] = per_wijk.get(wijk, 0) + count
        rows = []
        for wijk, total in per_wijk.items():
            given = (sectors or {}).get(wijk, {"A": total})
            assert sum(given.values()) == total, f"{wijk}: the sectors must add up to {total}"
            for sector in ("A", "B", "C"):
                rows.append((wijk, sector, given.get(sector, 0)))
        with self._connect() as connection:
            self._write(connection, "zzp_per_regio", "zzp_vestigingen", leaves)
            self._write_sectors(connection, rows)
            self.manifest(connection)

    def sql(self, statement: str) -> None:
        """Change the warehouse by hand."""
        with duckdb.connect(str(self.settings.paths.warehouse)) as connection:
            connection.execute(statement)

    @contextmanager
    def _connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse with what CBS has of all buurten; in one transaction, as each has to reach the disk."""
        self.settings.paths.create()
        inhabitants = _values((2020, code, "aantal_inwoners", 1000) for code in BUURTEN)
        with duckdb.connect(str(self.settings.paths.warehouse)) as connection:
            connection.begin()
            connection.execute(f"""
                CREATE SCHEMA IF NOT EXISTS marts;
                CREATE SCHEMA IF NOT EXISTS raw_cbs;
                CREATE OR REPLACE TABLE raw_cbs.kerncijfers_wijken_en_buurten
                    (jaar INTEGER, regio_code VARCHAR, indicator_sleutel VARCHAR, waarde DOUBLE);
                INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten VALUES {inhabitants};
                CREATE OR REPLACE TABLE raw_cbs.regios AS SELECT DISTINCT jaar::INTEGER AS indeling_jaar,
                    o AS regio_code, 'Regio ' || o AS regio_naam FROM (SELECT unnest([regio_code,
                    'WK' || substr(regio_code, 3, 6), 'GM' || substr(regio_code, 3, 4)]) AS o
                    FROM raw_cbs.kerncijfers_wijken_en_buurten), (VALUES (2020), (2021)) AS jaren(jaar);
                INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten
                SELECT 2020, o, 'aantal_inwoners', sum(waarde) FROM (
                    SELECT waarde, unnest(['WK' || substr(regio_code, 3, 6), 'GM' || substr(regio_code, 3, 4)]) AS o
                    FROM raw_cbs.kerncijfers_wijken_en_buurten) GROUP BY o""")
            yield connection
            connection.commit()

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        counted: str,
        leaves: list[tuple[str, str, int | None]],
        year: int = 2020,
    ) -> None:
        connection.execute("CREATE TEMP TABLE leaf (periode VARCHAR, code VARCHAR, n BIGINT)")
        connection.execute(f"INSERT INTO leaf VALUES {_values(leaves)}")
        connection.execute(f"""
            INSERT INTO raw_cbs.regios SELECT DISTINCT {year}, o, 'Regio ' || o FROM (SELECT unnest([code,
                'WK' || substr(code, 3, 6), 'GM' || substr(code, 3, 4)]) AS o FROM leaf WHERE code LIKE 'BU%')
            WHERE ({year}, o) NOT IN (SELECT (indeling_jaar, regio_code) FROM raw_cbs.regios)""")
        connection.execute(f"""
            CREATE OR REPLACE TABLE marts.{name} AS
            WITH up AS (
                SELECT periode, n, unnest(CASE WHEN code LIKE 'ONB%' THEN [code, 'GM' || right(code, 4)]
                    ELSE [code, 'WK' || substr(code, 3, 6), 'GM' || substr(code, 3, 4)] END) AS code FROM leaf
            ), total AS (
                SELECT periode, code, CASE WHEN bool_and(n IS NOT NULL) THEN sum(n) END::BIGINT AS n
                FROM up GROUP BY ALL
            ), rows AS (
                SELECT t.*, i.indicator, i.is_rate,
                    CASE WHEN i.is_rate AND t.n IS NOT NULL THEN k.waarde END::BIGINT AS noemer
                FROM total AS t
                CROSS JOIN (VALUES ('{counted}_aantal', false), ('{counted}_aantal_per_1000_inwoners', true))
                    AS i(indicator, is_rate)
                LEFT JOIN raw_cbs.kerncijfers_wijken_en_buurten AS k ON k.regio_code = t.code AND k.jaar = {year}
            )
            SELECT code AS regio_code,
                CASE WHEN code LIKE 'ONB%' THEN 'Onbekende buurt' ELSE 'Regio ' || code END AS regio_naam,
                CASE WHEN code LIKE 'ONB%' THEN 'ONB' ELSE left(code, 2) END AS regio_niveau,
                {year} AS indeling_jaar, periode,
                strptime(periode || CASE WHEN length(periode) = 4 THEN '-01-01' ELSE '-01' END, '%Y-%m-%d')::DATE
                    AS periode_start,
                indicator,
                CASE WHEN is_rate THEN round(1000 * n / noemer, 2) ELSE n END::DECIMAL(18, 2) AS waarde,
                n AS teller, noemer, CASE WHEN is_rate THEN 'per 1.000 inwoners' ELSE 'aantal' END AS eenheid,
                CASE WHEN n IS NULL THEN 'onbekend' WHEN is_rate AND noemer IS NULL THEN 'nvt'
                    ELSE 'verstrekt' END AS status,
                'definitief' AS vaststelling, 'synthetisch' AS herkomst
            FROM rows""")

    def _write_sectors(self, connection: duckdb.DuckDBPyConnection, rows: list[tuple[str, str, int]]) -> None:
        connection.execute("CREATE TEMP TABLE sector_leaf (code VARCHAR, sector VARCHAR, n BIGINT)")
        connection.execute(f"INSERT INTO sector_leaf VALUES {_values(rows)}")
        connection.execute("""
            CREATE OR REPLACE TABLE marts.zzp_per_sector AS
            WITH up AS (
                SELECT n, s AS sector_code, unnest([code, 'GM' || substr(replace(code, 'ONB', 'OB'), 3, 4)]) AS code
                FROM (SELECT n, code, unnest([sector, 'T001081']) AS s FROM sector_leaf)
            )
            SELECT code AS regio_code,
                CASE WHEN code LIKE 'ONB%' THEN 'Onbekende buurt' ELSE 'Regio ' || code END AS regio_naam,
                CASE WHEN code LIKE 'ONB%' THEN 'ONB' ELSE left(code, 2) END AS regio_niveau,
                2020 AS indeling_jaar, '2020' AS periode, DATE '2020-01-01' AS periode_start,
                'zzp_vestigingen_aantal' AS indicator, sector_code, 'Sector ' || sector_code AS sector_naam,
                sum(n)::DECIMAL(18, 2) AS waarde, sum(n)::BIGINT AS teller, NULL::BIGINT AS noemer,
                'aantal' AS eenheid, 'verstrekt' AS status, 'definitief' AS vaststelling,
                'synthetisch' AS herkomst
            FROM up GROUP BY ALL""")

    def manifest(self, connection: duckdb.DuckDBPyConnection | None = None) -> None:
        """Write what dbt would say of the marts; `connection` is the warehouse, where it is open."""
        nodes, parents = {}, {}
        sources = {
            f"source.f.{schema}.{name}": {"schema": schema, "name": name}
            for schema, name in (("raw_cbs", "kerncijfers_wijken_en_buurten"), ("raw_bijstand", "bus"))
        }
        columns: dict[str, list[str]] = {}
        with nullcontext(connection) if connection else duckdb.connect(str(self.settings.paths.warehouse)) as opened:
            query = "SELECT table_name, column_name FROM duckdb_columns() WHERE schema_name = 'marts'"
            for table, column in opened.execute(query).fetchall():
                columns.setdefault(table, []).append(column)
        for name, spec in self.specs.items():
            nodes[f"model.f.{name}"] = {
                "resource_type": "model",
                "schema": "marts",
                "name": name,
                "alias": name,
                "checksum": {"name": "sha256", "checksum": f"{len(name):064}"},
                "description": f"Tabel {name}.",
                "config": {"meta": {"disclosure": spec} if spec else {}},
                "columns": {column: {"description": f"Kolom {column}."} for column in columns.get(name, ())},
            }
            parents[f"model.f.{name}"] = self.extra_parents.get(name, ["source.f.raw_bijstand.bus"])
            nodes[f"test.f.{name}_klopt"] = {
                "resource_type": "test",
                "schema": "x",
                "name": f"{name}_klopt",
                "attached_node": f"model.f.{name}",
            }
            parents[f"test.f.{name}_klopt"] = [f"model.f.{name}"]
        target = self.settings.paths.dbt / "target"
        target.mkdir(parents=True, exist_ok=True)
        document = {"nodes": nodes, "sources": sources, "parent_map": parents}
        (target / "manifest.json").write_text(json.dumps(document))
        self.dbt_results(**self.statuses)

    def people(self, **roles: list[str]) -> None:
        """Let anna, bob and cees have keys (`<name>.key` beside the factory) and the roles given; anna signs."""
        folder = self.folder.parent
        people = {}
        for name in ("anna", "bob", "cees"):
            key = folder / f"{name}.key"
            public = folder / f"{name}.pub"
            if not key.exists():
                pair = minisign.KeyPair.generate()
                public.write_bytes(pair.public_key.to_base64())
                pair.secret_key.encrypt(PASSWORD)
                key.write_bytes(bytes(pair.secret_key))
            people[name] = {"sleutel": public.read_text(), "functie": f"functie van {name}"}
        document = {"versie": "1", "personen": people, "rollen": roles}
        path = self.folder / "policy" / "rollen.yaml"
        is_change = path.exists()
        path.write_text(yaml.safe_dump(document))
        if is_change:
            sign(self.settings, path, "rollen", folder / "anna.key", PASSWORD)

    def sign_norms(self, person: str = "bob") -> None:
        """Approve normen.yaml as it is."""
        file = self.folder / "policy" / "normen.yaml"
        sign(self.settings, file, "normen", self.folder.parent / f"{person}.key", PASSWORD)

    def propose(self, audience: str = "intern", person: str = "anna", tables: Sequence[str] = ()) -> Filed:
        """Propose tables as they are now, by default all."""
        marts = [mart for mart in read_marts(self.settings) if mart.name in tables or not tables]
        norms, key = load_norms(self.folder / "policy"), self.folder.parent / f"{person}.key"
        return propose(self.settings, audience, marts, norms, key, PASSWORD)  # type: ignore[arg-type]

    def approve(self, path: Path, person: str = "bob") -> Filed:
        """Approve a proposal."""
        norms, key = load_norms(self.folder / "policy"), self.folder.parent / f"{person}.key"
        return approve(self.settings, path, read_marts(self.settings), norms, key, PASSWORD)[0]

    def let_go(self, audience: str = "intern") -> None:
        """Have all tables proposed and approved for an audience, as they are."""
        self.approve(self.propose(audience).path)

    def dbt_results(self, **statuses: str) -> None:
        """Write what dbt's last run came to: all well but for the nodes named (`model__f__x`)."""
        self.statuses = statuses
        told = {key.replace("__", "."): value for key, value in statuses.items()}
        target = self.settings.paths.dbt / "target"
        manifest = json.loads((target / "manifest.json").read_text())
        good = {name: "pass" if name.startswith("test.") else "success" for name in manifest["nodes"]}
        results = [
            {"unique_id": name, "status": status, "text": text_of(manifest, name)}
            for name, status in (good | told).items()
        ]
        (target / "run_results.json").write_text(json.dumps({"results": results}))

    def candidate(self, audience: str = "open") -> Release:
        return build_candidate(self.settings, audience, self.now)  # type: ignore[arg-type]

    def release(self, audience: str = "open") -> tuple[Release, bool]:
        self.candidate(audience)
        return release_candidate(self.settings, audience)  # type: ignore[arg-type]


def rows_of(release: Release, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(release.database), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def ask() -> Callable[[Release, str], list[tuple[Any, ...]]]:
    """Ask a released file a question."""
    return rows_of


@pytest.fixture
def buurten() -> list[str]:
    """Codes of all buurten of the fixture's factory."""
    return BUURTEN


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrypt as minisign wants it takes a gigabyte."""
    monkeypatch.setattr("minisign.secret_key.OPSLIMIT", 32768)
    monkeypatch.setattr("minisign.secret_key.MEMLIMIT", 1 << 24)


@pytest.fixture
def real(make_factory: Callable[..., Factory], cheap_passwords: None) -> Factory:
    """A real factory with one month of bijstand: anna proposes, bob and cees may approve releases, bob norms too."""
    made = make_factory(sample=False)
    made.people(leveringen=["anna", "bob", "cees"], normen=["bob"])
    made.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 24}}, unknown=12)
    made.sign_norms()
    return made


@pytest.fixture
def make_factory(tmp_path: Path) -> Callable[..., Factory]:
    """Make a factory in a folder of its own."""

    def make(sample: bool = True) -> Factory:
        folder = tmp_path / ("voorbeeld" if sample else "echt")
        (folder / "policy").mkdir(parents=True)
        (folder / "factory.yaml").write_text(
            f"name: Toetsfabriek\nsample: {str(sample).lower()}\nhome: home\n"
            "region: {gemeenten: [GM0518, GM1916], provincie: PV28}\nresources: {memory_limit: 1GB, threads: 1}\n"
        )
        factory = Factory(folder, load_settings(folder / "factory.yaml"))
        factory.norms(NORMS)
        return factory

    return make


@pytest.fixture
def factory(make_factory: Callable[..., Factory]) -> Factory:
    """A sample factory with one month of bijstand."""
    made = make_factory()
    made.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 24, "BU19160100": 0, "BU19160101": 3}}, unknown=12)
    return made
