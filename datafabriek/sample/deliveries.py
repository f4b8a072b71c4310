"""The sample's municipal deliveries: addresses, BRP, eleven months of bijstand (BUS) and the business register.

Belongs here: how the made-up population (population.py) fills each delivery, which dirt goes in, and when the inbox is
filled. Does not belong here: the layouts (columns, widths, separator, encoding come from the contracts), and what the
intake makes of it.

A seed settles every byte. What was spoiled stands in the manifest, which never goes into the inbox.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from assets.deliveries.layouts import ELSEWHERE, render
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.sample import businesses, population
from datafabriek.sample.dirt import LABELS, Spot, soil
from datafabriek.sample.population import NEVER, YEAR, Population
from quality.contracts.model import Contract, load

SEED = 518_1916

KINDS = ("adressen", "brp", "bus", "bedrijven")

MISSING_MONTH = 8
"""The month for which no BUS delivery comes, so that a gap shows."""

FILES = {
    "adressen": (f"adressen_{YEAR}.csv",),
    "brp": (f"brp_{YEAR}1231.csv",),
    "bus": tuple(f"BUS_{YEAR}{month:02}.txt" for month in range(1, 13) if month != MISSING_MONTH),
    "bedrijven": (f"bedrijven_{YEAR}0101.csv",),
}


@dataclass(frozen=True)
class WrittenFile:
    """One file of a delivery: records without header and footer, fingerprint SHA-256."""

    delivery: str
    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What was written and what is wrong with it; `labels` has the columns of `dirt.LABELS`."""

    seed: int
    scale: float
    files: tuple[WrittenFile, ...]
    labels: pl.DataFrame

    def to_json(self) -> str:
        """Seed, scale and files; not the labels."""
        files = [asdict(file) for file in self.files]
        return json.dumps({"seed": self.seed, "scale": self.scale, "files": files}, indent=1)

    def save(self, folder: Path) -> None:
        """Write `manifest.json` and `labels.csv`; the folder must not be an inbox."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text(self.to_json() + "\n")
        self.labels.write_csv(folder / "labels.csv")


def write_deliveries(
    folder: Path,
    seed: int = SEED,
    scale: float = 1.0,
    kinds: Sequence[str] = KINDS,
    progress: Callable[[str], None] | None = None,
) -> Manifest:
    """Write the deliveries as `folder/<delivery>/<file>`.

    Args:
        folder: an inbox or any folder; made where it is missing.
        seed: settles every byte.
        scale: share of the real number of inhabitants, over 0 and at most 1; the structure stays.
        kinds: which deliveries.
        progress: told each file's name when it is written.
    """
    people = population.generate(seed, scale)
    written, labels = [], []
    for kind in kinds:
        for name, body, label, records in _MAKERS[kind](people, seed):
            target = folder / kind / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
            written.append(WrittenFile(kind, name, records, len(body), hashlib.sha256(body).hexdigest()))
            labels.append(label)
            if progress is not None:
                progress(name)
    return Manifest(seed, scale, tuple(written), pl.concat([pl.DataFrame(schema=LABELS), *labels]))


def fill_inbox(settings: Settings, seed: int = SEED, scale: float = 1.0) -> list[Path]:
    """Drop the deliveries that were not taken in yet; what the ledger shows or the inbox holds is left alone.

    Which fingerprints a seed yields is kept in the home (`sample/deliveries.json`), so that a next run need not make
    anything to see that nothing is lacking.

    Returns:
        the files that were dropped.
    """
    home = settings.paths
    wanted = [(name, d.contract or name) for name, d in settings.deliveries.items() if (d.contract or name) in KINDS]
    state = home.root / "sample" / "deliveries.json"
    made_by: dict[str, object] = {"maker": _maker(), "seed": seed, "scale": scale}
    known = _fingerprints(state, made_by)
    seen = _taken_in(Ledger(home.ledger))

    def lacking(prints: dict[str, str]) -> list[tuple[str, str, str]]:
        return [
            (name, kind, file) for name, kind in wanted for file in FILES[kind]
            if prints.get(f"{kind}/{file}") not in seen and not (home.inbox / name / file).exists()
        ]  # fmt: skip

    if not lacking(known):
        return []
    home.create()
    with tempfile.TemporaryDirectory(dir=home.temp) as scratch:
        kinds = [kind for kind in KINDS if kind in {kind for _, kind in wanted}]
        manifest = write_deliveries(Path(scratch), seed, scale, kinds)
        prints = known | {f"{file.delivery}/{file.name}": file.sha256 for file in manifest.files}
        dropped = []
        for name, kind, file in lacking(prints):
            target = home.inbox / name / file
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # under another name first: an inbox sensor must not see half a file
            part = target.with_name(f".{file}.part")
            shutil.copyfile(Path(scratch) / kind / file, part)
            part.replace(target)
            dropped.append(target)
    state.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.write_text(json.dumps({**made_by, "files": prints}, indent=1) + "\n")
    return dropped


def _maker() -> str:
    """Fingerprint of all that settles the bytes besides seed and scale: this package, the contracts, the libraries."""
    package = Path(__file__).parent
    parts = [*package.glob("*.py"), *package.glob("data/*"), *(load(kind).source for kind in KINDS)]
    digest = hashlib.sha256(f"numpy {np.__version__} polars {pl.__version__}".encode())
    for path in sorted(parts):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fingerprints(state: Path, made_by: dict[str, object]) -> dict[str, str]:
    try:
        noted = json.loads(state.read_text())
        files: dict[str, str] = noted.pop("files")
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
    return files if noted == made_by else {}


def _taken_in(ledger: Ledger) -> set[str]:
    """Fingerprints of all deliveries that the ledger tells of, accepted or refused."""
    return {str(event.payload.get("fingerprint")) for event in ledger.events("delivery")}


# --- layouts ---------------------------------------------------------------------------------------------------

Made = tuple[str, bytes, pl.DataFrame, int]


def _adressen(people: Population, seed: int) -> Iterator[Made]:
    rng = np.random.default_rng([seed, 3])
    frame = people.addresses.filter("bekend").select(
        "postcode", "huisnummer", "huisletter", huisnummertoevoeging="toevoeging",
        buurt_code="buurt_code", indeling_jaar=YEAR,
    )  # fmt: skip
    spots = [
        Spot("spaties", 0.001, "repaired", "postcode", spaces),
        Spot("code_afgekapt", 0.00002, "quarantined", "buurt_code", lambda c: c.str.slice(0, 6)),
        *BROKEN_LINES,
    ]
    yield made(load("adressen"), FILES["adressen"][0], frame, spots, rng, duplicates=0.0001)


def _brp(people: Population, seed: int) -> Iterator[Made]:
    rng = np.random.default_rng([seed, 4])
    stays = people.stays
    person = people.persons[stays["persoon"]]
    address = people.addresses[stays["adres"]]
    frame = pl.concat([person, address, stays], how="horizontal").select(
        "bsn", "a_nummer", "voornamen", "voorvoegsel", "geslachtsnaam",
        geboortedatum=day("geboren"), geslacht="geslacht", straatnaam="straat",
        huisnummer="huisnummer", huisletter="huisletter", huisnummertoevoeging="toevoeging",
        postcode="postcode", woonplaats="woonplaats", gemeente_code=pl.col("gemeente_code").str.slice(2),
        datum_aanvang_adres=day("vanaf"),
        datum_einde_adres=pl.when(pl.col("tot") == NEVER).then(pl.lit("")).otherwise(day("tot")),
        huishoudnummer=100_000_000 + pl.col("huishouden"),
        indicatie_geheim="geheim",
    )  # fmt: skip
    spots = [
        zero_lost("bsn", 0.001),
        _NUL_WEG,
        Spot("spaties", 0.0005, "repaired", "postcode", spaces),
        Spot("dag_onbekend", 0.0005, "repaired", "geboortedatum", lambda c: c.str.slice(0, 6) + "00"),
        Spot("maand_onbekend", 0.0003, "repaired", "geboortedatum", lambda c: c.str.slice(0, 4) + "0000"),
        Spot("datum_onbekend", 0.00005, "repaired", "geboortedatum", lambda _: pl.lit("00000000")),
        Spot("elfproef", 0.0003, "quarantined", "bsn", wrong_check_digit),
        Spot("datum_bestaat_niet", 0.0001, "quarantined", "datum_aanvang_adres", june_31),
        Spot("onbekende_code", 0.00005, "quarantined", "geslacht", lambda _: pl.lit("X")),
        Spot("onbekende_code", 0.00005, "quarantined", "indicatie_geheim", lambda _: pl.lit("9")),
        *BROKEN_LINES,
    ]
    footer = f"Afgedrukt op 04-01-{YEAR + 1} 08:12, {frame.height} regels"
    yield made(load("brp"), FILES["brp"][0], frame, spots, rng, duplicates=0.0002, footer=footer)


def _bus(people: Population, seed: int) -> Iterator[Made]:
    rng = np.random.default_rng([seed, 5])
    register = _bus_register(people, rng)
    residence = people.addresses["gemeente_code"].str.slice(2).gather(people.stays["adres"])
    homes = (
        people.stays.select("persoon", gemeente_code=residence, sinds="vanaf", verlaat="tot")
        .join(register.select("persoon").unique(), on="persoon", how="semi")
    )  # fmt: skip
    contract = load("bus")
    for number, file in enumerate(FILES["bus"]):
        month = int(file[8:10])
        first = int(np.datetime64(f"{YEAR}-{month:02}", "D").astype(int))
        last = int((np.datetime64(f"{YEAR}-{month:02}", "M") + 1).astype("datetime64[D]").astype(int)) - 1
        ended = pl.col("tot") <= last
        frame = (
            register.filter(pl.col("vanaf") <= last, pl.col("tot") >= first)
            .join(homes.filter(pl.col("sinds") <= last, pl.col("verlaat") > last), on="persoon", maintain_order="left")
            .with_columns(
                statistiekjaar=YEAR, statistiekmaand=month, berichtgevercode="gemeente_code",
                einddatum_persoon=pl.when(ended).then(day("tot")).otherwise(pl.lit("0")),
                reden_beeindiging=pl.when(ended).then("reden").otherwise(0),
            )
        )  # fmt: skip
        # a small month cannot have every kind of dirt and stay credible: they take turns
        spots = [s for i, s in enumerate(_BUS_SPOTS) if s.share * frame.height >= 1 or i % 4 == number % 4]
        printed = f"Afgedrukt op 04-{month % 12 + 1:02}-{YEAR + month // 12} 11:32   pagina 1"
        footer = printed if number % 5 == 0 else None
        yield made(contract, file, frame, spots, rng, duplicates=0.0002, footer=footer)


def _bus_register(people: Population, rng: np.random.Generator) -> pl.DataFrame:
    """Every record of the year without what depends on the month; most fields as whole numbers."""
    grants = people.benefits
    person = people.persons[grants["persoon"]]
    # a few are not in the BRP extract: registered elsewhere by now
    number = grants.height
    elsewhere = rng.choice(number, min(number, max(2, round(0.003 * number))), replace=False)
    bsn = person["bsn"].scatter(elsewhere, people.strangers.head(len(elsewhere)))
    earns = rng.random(number) < 0.12
    norm = np.array([0, 1052, 1052, 1503, 1052])[grants["leefvorm"].to_numpy()]
    income = np.where(earns, rng.integers(50, 600, number), 0)
    special = pl.col("regeling").is_in([11, 12])
    frame = grants.with_columns(
        softwarepakket=pl.lit("soc"), softwareversie=pl.lit("2020.1"),
        registratienummer_uitkering=pl.format("{}", 2_015_000_000 + pl.col("uitkering") * 7),
        statistiekcode="regeling",
        classificatie_bbz=pl.when(pl.col("regeling") == 14).then(pl.col("uitkering") % 2 + 1).otherwise(0),
        aantal_kostendelers=pl.Series(rng.choice([1, 2, 3], number, p=[0.86, 0.1, 0.04])),
        bedrag_norm=pl.when(special).then(0).otherwise(pl.Series(norm)),
        bedrag_afstemming=0,
        bedrag_inkomsten=pl.Series(income),
        datum_invoering=day(pl.col("vanaf") + 14),
        cluster_bijzondere_bijstand=pl.when(special).then(pl.lit("c")).otherwise(pl.lit("")),
        bsn=bsn, geboortedatum=person.select(day("geboren")).to_series(),
        geslacht=pl.when(person["geslacht"] == "M").then(1).otherwise(2),
        huisvesting=pl.Series(rng.choice([1, 2, 3, 4, 6], number, p=[0.86, 0.03, 0.08, 0.02, 0.01])),
        aanvangsdatum_persoon=day("vanaf"),
        ontheffing=pl.Series(rng.choice([2, 4, 6], number, p=[0.8, 0.17, 0.03])),
        einddatum_ontheffing=0, reden_einde_ontheffing=0,
        tegenprestatie=pl.Series(rng.choice([1, 2], number, p=[0.1, 0.9])),
        reden_vermindering=0, aanvangsdatum_vermindering=0, einddatum_vermindering=0,
        soort_inkomsten=pl.Series(np.where(earns, 11, 0)), bedrag_inkomsten_persoon=pl.Series(income),
        vrijlating=pl.Series(np.where(earns, rng.integers(1, 3, number), 0)),
        reden=pl.Series(rng.choice([2, 3, 11, 13, 19, 32, 98], number, p=[0.1, 0.12, 0.4, 0.08, 0.1, 0.1, 0.1])),
    )  # fmt: skip
    # a second kind of income is a second record of the same person
    second = frame.filter(pl.Series(earns & (rng.random(number) < 0.1))).with_columns(
        soort_inkomsten=pl.lit(31, pl.Int64), bedrag_inkomsten_persoon=pl.lit(40, pl.Int64)
    )
    signed = [pl.format("+{}", pl.col(c).cast(pl.String).str.zfill(4)).alias(c)
              for c in ("bedrag_afstemming", "bedrag_inkomsten", "bedrag_inkomsten_persoon")]  # fmt: skip
    paid = (pl.col("bedrag_norm") - pl.col("bedrag_inkomsten")).clip(lower_bound=0).alias("bedrag_betaalbaar")
    return pl.concat([frame, second]).sort("uitkering", maintain_order=True).with_columns(paid).with_columns(signed)


def _bedrijven(people: Population, seed: int) -> Iterator[Made]:
    rng = np.random.default_rng([seed, 6])
    frame = businesses.generate(people, rng)
    spots = [
        zero_lost("eigenaar_bsn", 0.001),
        Spot("nullen_weg", 0.001, "repaired", "vestigingsnummer", unpadded),
        _NUL_WEG,
        Spot("spaties", 0.001, "repaired", "postcode", spaces),
        Spot("elfproef", 0.0003, "quarantined", "eigenaar_bsn", wrong_check_digit, pl.col("eigenaar_bsn") != ""),
        Spot("datum_bestaat_niet", 0.0001, "quarantined", "datum_vestiging", june_31),
        Spot("onbekende_code", 0.0001, "quarantined", "indicatie_zzp", lambda _: pl.lit("X")),
        *BROKEN_LINES,
    ]
    yield made(load("bedrijven"), FILES["bedrijven"][0], frame, spots, rng, duplicates=0.0002)


_MAKERS: dict[str, Callable[[Population, int], Iterator[Made]]] = {
    "adressen": _adressen, "brp": _brp, "bus": _bus, "bedrijven": _bedrijven,
}  # fmt: skip


# --- dirt ------------------------------------------------------------------------------------------------------


def spaces(column: pl.Expr) -> pl.Expr:
    """Spaces behind the value."""
    return column + "  "


def unpadded(column: pl.Expr) -> pl.Expr:
    """Leading zeros lost."""
    return column.str.strip_chars_start("0")


def padded(column: str) -> pl.Expr:
    """Rows that have a leading zero to lose."""
    return pl.col(column).str.starts_with("0")


def always(word: str) -> Callable[[pl.Expr], pl.Expr]:
    """The same word, whatever stood there."""
    return lambda _: pl.lit(word)


def june_31(column: pl.Expr) -> pl.Expr:
    """A day that does not exist, in the same year."""
    return column.str.slice(0, 4) + "0631"


def wrong_check_digit(column: pl.Expr) -> pl.Expr:
    """The last digit one higher (9 becomes 0): always fails the eleven-test, in which that digit weighs -1."""
    return column.str.slice(0, 8) + ((column.str.slice(8, 1).cast(pl.Int8, strict=False) + 1) % 10).cast(pl.String)


def zero_lost(column: str, share: float) -> Spot:
    """A number that lost its leading zeros, where it has some."""
    return Spot("nullen_weg", share, "repaired", column, unpadded, padded(column))


BROKEN_LINES = [
    Spot("te_weinig_velden", 0.00003, "quarantined", None, lambda line: line.str.replace(r";[^;]*;[^;]*$", "")),
    Spot("te_veel_velden", 0.00002, "quarantined", None, lambda line: line.str.replace(";", ";;", literal=True)),
]

_NUL_WEG = Spot("gemeente_zonder_nul", 0.0015, "repaired", "gemeente_code", unpadded, padded("gemeente_code"))

_BUS_SPOTS = [
    replace(_NUL_WEG, spoil=lambda c: unpadded(c).str.pad_start(4)),
    Spot("elfproef", 0.0005, "quarantined", "bsn", wrong_check_digit),
    Spot("spaties", 0.001, "repaired", None, lambda line: line + "   "),
    Spot("datum_bestaat_niet", 0.0002, "quarantined", "aanvangsdatum_persoon", june_31),
    Spot("nullen_weg", 0.001, "repaired", "bsn", lambda c: unpadded(c).str.pad_start(9), padded("bsn")),
    Spot("te_kort", 0.0001, "quarantined", None, lambda line: line.str.slice(0, 100)),
    Spot("onbekende_code", 0.0001, "quarantined", "statistiekcode", lambda _: pl.lit("99")),
]  # fmt: skip


# --- writing ---------------------------------------------------------------------------------------------------


def day(days: str | pl.Expr | pl.Series) -> pl.Expr:
    """Days since 1970 as JJJJMMDD."""
    number = pl.col(days) if isinstance(days, str) else pl.lit(days) if isinstance(days, pl.Series) else days
    date = number.cast(pl.Int32).cast(pl.Date)
    whole = date.dt.year() * 10_000 + date.dt.month().cast(pl.Int32) * 100 + date.dt.day().cast(pl.Int32)
    return whole.cast(pl.String)


def made(
    contract: Contract,
    file: str,
    frame: pl.DataFrame,
    spots: Sequence[Spot],
    rng: np.random.Generator,
    *,
    duplicates: float,
    footer: str | None = None,
) -> Made:
    """A frame in the layout of its contract, with its dirt; whole lines can be spoiled in text layouts only."""
    if contract.layout.format in ELSEWHERE:
        return _made_elsewhere(contract, file, frame, spots, rng, duplicates, footer)
    fixed = contract.layout.format == "vaste_breedte"
    text = frame.select(pl.col(contract.names).cast(pl.String))
    header = () if fixed else (contract.layout.delimiter.join(c.header for c in contract.columns),)
    if fixed:
        text = text.select(
            padded_to(c.name, c.width or 0, is_text=c.physical.startswith("A")) for c in contract.columns
        )
    line = pl.concat_str(contract.names, separator="" if fixed else contract.layout.delimiter)
    lines, labels = soil(text, spots, line, rng, file=file, header=header, duplicates=duplicates, footer=footer)
    out = io.BytesIO()
    end = "\r\n" if fixed else "\n"
    lines.to_frame().write_csv(out, include_header=False, quote_style="never", line_terminator=end)
    body = out.getvalue()
    if contract.layout.encoding != "utf-8":
        body = body.decode().encode(contract.layout.encoding)
    return file, body, labels, lines.len() - len(header) - (footer is not None)


def _made_elsewhere(
    contract: Contract,
    file: str,
    frame: pl.DataFrame,
    spots: Sequence[Spot],
    rng: np.random.Generator,
    duplicates: float,
    footer: str | None,
) -> Made:
    """The same where a record is no line: what stands above the records is the layout's own."""
    above = [""] * int(contract.layout.options.get("eerste_record", 1) - 1)
    text = frame.select(pl.col(contract.names).cast(pl.String))
    line = pl.struct(contract.names).struct.json_encode()
    lines, labels = soil(text, spots, line, rng, file=file, header=above, duplicates=duplicates)
    records = lines.slice(len(above)).str.json_decode(pl.Struct(dict.fromkeys(contract.names, pl.String)))
    body = render(records.struct.unnest(), contract, **({"footer": footer} if footer else {}))
    if footer is not None:
        last = pl.DataFrame([[file, lines.len() + 1, "afdrukregel", "", "quarantined"]], labels.schema, orient="row")
        labels = pl.concat([labels, last])
    return file, body, labels, len(records)


def padded_to(column: str, width: int, *, is_text: bool) -> pl.Expr:
    """Text stands left with spaces behind it, a number right with zeros before it (after its sign)."""
    return pl.col(column).str.pad_end(width) if is_text else pl.col(column).str.zfill(width)
