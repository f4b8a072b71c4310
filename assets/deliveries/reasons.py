"""Why a delivery was refused as a whole, in Dutch for its supplier.

The intake tells it in English, in logs and on the command line; a supplier reads the op-orde report. Here every such
message stands beside its Dutch; a test holds this list to the messages that the readers can give.
"""

from __future__ import annotations

import re
from functools import cache

_ANEW = "Laat het opnieuw aanleveren"
_SAVE = "Sla het opnieuw op vanuit het programma waarin het is gemaakt"
_IS_IT = "Is dit het afgesproken bestand?"

_DUTCH = {
    # text
    "{f} is {a}: deliver it as {b}, as was agreed": "Het bestand is {a}. Lever het aan als {b}, zoals is afgesproken.",
    "{f} is UTF-16: deliver it as {a}": "Het bestand is UTF-16. Lever het aan als {a}.",
    "{f} is {kind}, not the agreed text file: deliver it unpacked, as {a}":
        "Het bestand is {kind} en niet het afgesproken tekstbestand. Lever het uitgepakt aan, als {a}.",
    "{f}, line {n}: a NUL byte stands where text belongs: the file is damaged":
        "Op regel {n} staat een NUL-byte waar tekst hoort: het bestand is beschadigd.",
    "{f}, line {n}: not {a}: save it as {b}": "Regel {n} is niet in {a}. Sla het bestand op als {b}.",
    "{f} is UTF-8 where {a} was agreed: save it as {b}":
        "Het bestand is UTF-8 terwijl {a} is afgesproken. Sla het op als {b}.",
    "{f} cannot be taken apart: is it the agreed CSV, whole and unchanged?":
        "Het bestand is niet te lezen. Is het de afgesproken CSV, heel en ongewijzigd?",
    "{f} holds over {n} lines that cannot be taken apart: is this the agreed file?":
        f"Het bestand heeft meer dan {{n}} regels die niet te splitsen zijn. {_IS_IT}",
    "{f} holds over {n} empty lines: is this the agreed file?":
        f"Het bestand heeft meer dan {{n}} lege regels. {_IS_IT}",
    "{f}: the header line is longer than 64 kB: is this the agreed file?":
        f"De kopregel is langer dan 64 kB. {_IS_IT}",
    "{f}, line 1: the header cannot be taken apart at `{a}`": "De kopregel is niet te splitsen op `{a}`.",
    "{f}, line 1: no `{a}` found: it was agreed as the separator":
        "In de kopregel staat geen `{a}`, het afgesproken scheidingsteken.",
    "{f}: the header is missing: start with {a}…": "De kopregel ontbreekt. Begin met {a}…",
    "{f}, record {n}: a field runs on over many lines: a double quote is opened and never closed":
        "Vanaf record {n} loopt een veld over veel regels door: een aanhalingsteken is geopend en nooit gesloten.",
    "{f}: a field runs on over many lines: a double quote is opened and never closed":
        "Een veld loopt over veel regels door: een aanhalingsteken is geopend en nooit gesloten.",
    "{f}, line {n}: longer than {m} bytes: is this the agreed file?":
        f"Regel {{n}} is langer dan {{m}} bytes. {_IS_IT}",
    # workbooks
    "{f} is larger than {n} MB: deliver it in parts, or as CSV":
        "Het bestand is groter dan {n} MB. Lever het in delen aan, of als CSV.",
    "{f}: a NUL character stands where text belongs: the file is damaged":
        "Er staat een NUL-teken waar tekst hoort: het bestand is beschadigd.",
    "{f}: no header within {n} rows: name the columns {a}…":
        "In de eerste {n} rijen staat geen kopregel. Noem de kolommen {a}…",
    "{f} is an old XLS or protected with a password: save it as XLSX without one":
        "Het bestand is een oude XLS of heeft een wachtwoord. Sla het op als XLSX zonder wachtwoord.",
    "{f} is a ZIP file but no XLSX: deliver the workbook itself":
        "Het bestand is een ZIP en geen XLSX. Lever de werkmap zelf aan.",
    "{f} holds {n} parts, more than any workbook needs: it is not opened":
        "Het bestand heeft {n} onderdelen, meer dan een werkmap nodig heeft. Het is niet geopend.",
    "{f} is damaged or protected: save it again, without a password":
        "Het bestand is beschadigd of beveiligd. Sla het opnieuw op, zonder wachtwoord.",
    "{f} is packed in an unusual way: save it again from the program it was made in":
        f"Het bestand is op een ongebruikelijke manier ingepakt. {_SAVE}.",
    "{f}: no sheet is called `{a}`: name it so, as was agreed":
        "Geen werkblad heet `{a}`. Noem het zo, zoals is afgesproken.",
    "{f} cannot be read as XLSX: save it again from the program it was made in":
        f"Het bestand is niet te lezen als XLSX. {_SAVE}.",
    "{f} is no XLSX file: deliver the workbook itself, whole and unchanged":
        "Het bestand is geen XLSX. Lever de werkmap zelf aan, heel en ongewijzigd.",
    "{f}: a sheet spans {n} rows by {m} columns: remove the stray cells far outside the table, or deliver it as CSV":
        "Een werkblad beslaat {n} rijen bij {m} kolommen. Verwijder losse cellen ver buiten de tabel, of lever CSV "
        "aan.",
    "{f}: the sheet is full, and what came after it is lacking: deliver it as CSV":
        "Het werkblad is vol, en wat daarna kwam ontbreekt. Lever het aan als CSV.",
    "{f}: another sheet holds the agreed columns too: deliver all records on the first":
        "Ook een ander werkblad heeft de afgesproken kolommen. Lever alle records op het eerste werkblad aan.",
    "{f} holds formulas of which no value was ever computed: open it in the program it was made in, and save it again":
        "Het bestand heeft formules waarvan nooit een waarde is berekend. Open het in het programma waarin het is "
        "gemaakt, en sla het opnieuw op.",
    "{f}: cells {a}:{b} are merged, and only the first of them holds a value: split them and fill in each":
        "De cellen {a}:{b} zijn samengevoegd, en alleen de eerste heeft een waarde. Splits ze en vul elke cel in.",
    "{f}: over {n} ranges of cells are merged: split them":
        "Meer dan {n} groepen cellen zijn samengevoegd. Splits ze.",
    "{f} holds over {n} cells with an error (#N/A, #REF!): mend them first":
        "Het bestand heeft meer dan {n} cellen met een fout (#N/B, #VERW!). Verbeter die eerst.",
    "{f} is damaged: have it delivered again": f"Het bestand is beschadigd. {_ANEW}.",
    "{f} unpacks to more than {n} MB: it is not opened; deliver it in parts, or as CSV":
        "Uitgepakt is het bestand groter dan {n} MB. Het is niet geopend; lever het in delen aan, of als CSV.",
    "{f} declares a document type, which no workbook does: it is not opened":
        "Het bestand heeft een documenttype (DOCTYPE), wat geen werkmap heeft. Het is niet geopend.",
    # messages
    "{f} declares a document type, which no message needs: it is not read; leave it out":
        "Het bericht heeft een documenttype (DOCTYPE), wat niet nodig is. Het is niet gelezen; laat het weg.",
    "{f} is another message than {a}: expected <{b}> of {ns}; check message and version":
        "Dit is een ander bericht dan {a}: verwacht was <{b}> van {ns}. Controleer bericht en versie.",
    "{f}, line {n}: not well-formed XML in {a}, or a value larger than 10 MB: have the message made again":
        "Bij regel {n} is het bericht geen geldige XML in {a}, of een waarde is groter dan 10 MB. Laat het opnieuw "
        "maken.",
    "{f}: not well-formed XML in {a}, or a value larger than 10 MB: have the message made again":
        "Het bericht is geen geldige XML in {a}, of een waarde is groter dan 10 MB. Laat het opnieuw maken.",
    "{f}, record {n}: element {a} stands there twice: have the message made again":
        "In record {n} staat het element {a} twee keer. Laat het bericht opnieuw maken.",
    "{f}, record {n}: element {a} holds elements where a value was agreed: have the message made again":
        "In record {n} bevat het element {a} andere elementen waar een waarde is afgesproken. Laat het bericht "
        "opnieuw maken.",
    "{f}, record {n}: an element of another name stands among the records {a}: have the message made again":
        "Bij record {n} staat tussen de records {a} een element met een andere naam. Laat het bericht opnieuw maken.",
    "{f}, record {n}: an element stands right below the root that was not agreed: have the message made again":
        "Bij record {n} staat direct onder het hoofdelement een element dat niet is afgesproken. Laat het bericht "
        "opnieuw maken.",
    "{f}, record {n}: a record stands elsewhere than in {a}: have the message made again":
        "Bij record {n} staat een record ergens anders dan in {a}. Laat het bericht opnieuw maken.",
    "{f} ends in the middle of a record: it was cut off, have it delivered again":
        f"Het bestand eindigt midden in een record: het is afgebroken. {_ANEW}.",
    "{f}: no list of records {place}: deliver the agreed document":
        "Er is geen lijst van records {place}. Lever het afgesproken document aan.",
    "{f}, record {n}: larger than {m} MB: that is no record": "Record {n} is groter dan {m} MB: dat is geen record.",
    "{f}: nested deeper than {n} levels: is this the agreed file?":
        f"Het bestand is dieper genest dan {{n}} lagen. {_IS_IT}",
    "{f}: closes more brackets than it opens: it is no whole JSON document":
        "Het bestand sluit meer haken dan het opent: het is geen heel JSON-document.",
    "{f}: has more than {n} lists of records: deliver them as one":
        "Het bestand heeft meer dan {n} lijsten van records. Lever ze als één lijst aan.",
    "{f}: over {n} values stand among the records: is this the agreed file?":
        f"Tussen de records staan meer dan {{n}} losse waarden. {_IS_IT}",
    "{f} is no valid JSON around its records: have it delivered again":
        f"Rond de records is het bestand geen geldige JSON. {_ANEW}.",
    # Parquet
    "{f} has {n} columns: is this the agreed file?": f"Het bestand heeft {{n}} kolommen. {_IS_IT}",
    "{f}: a column holds lists or objects: deliver plain columns":
        "Een kolom bevat lijsten of objecten. Lever gewone kolommen aan.",
    "{f} cannot be read: is it the agreed Parquet, whole and unchanged?":
        "Het bestand is niet te lezen. Is het de afgesproken Parquet, heel en ongewijzigd?",
    "{f}: row group {n} unpacks to more than 1 GB: write smaller groups":
        "Rijgroep {n} is uitgepakt groter dan 1 GB. Schrijf kleinere groepen.",
    "{f}: rows from {n} unpack to more than 1 GB: that is no delivery of rows":
        "Vanaf rij {n} zijn de rijen uitgepakt groter dan 1 GB: dat is geen levering van rijen.",
    # columns and keys
    "{f}: {clauses}: deliver by contract {a}, or agree on a new version":
        "Niet zoals is afgesproken: {clauses}. Lever volgens contract {a}, of spreek een nieuwe versie af.",
    # the delivery as a whole
    "{f}: rule `{a}` on column `{b}` may never be broken and is, {n} time(s), first on line {m}: have the supplier "
    "correct and deliver again":
        "Controle `{a}` op kolom `{b}` mag nooit worden gebroken en is dat {n} keer, het eerst op rij {m}. Verbeter "
        "dit en "
        "lever opnieuw aan.",
    "{f} holds no rows, which contract {a} does not allow: have it delivered again":
        f"Het bestand heeft geen rijen, wat contract {{a}} niet toestaat. {_ANEW}.",
    "{f}: {n} of {m} rows are refused, more than the agreed {share}; most often column `{a}`, rule `{b}` ({k} times, "
    "first on line {l}): have the supplier correct and deliver again":
        "{n} van {m} rijen zijn geweigerd, meer dan de afgesproken {share}; het vaakst door controle `{b}` op kolom "
        "`{a}` "
        "({k} keer, het eerst op rij {l}). Verbeter dit en lever opnieuw aan.",
    "{f}: {n} of {m} rows are refused, more than the agreed {share}; most often rule `{b}` ({k} times, first on line "
    "{l}): have the supplier correct and deliver again":
        "{n} van {m} rijen zijn geweigerd, meer dan de afgesproken {share}; het vaakst door controle `{b}` ({k} keer, "
        "het "
        "eerst op rij {l}). Verbeter dit en lever opnieuw aan.",
    "{f} holds {n} rows, over {m} times the {k} of the largest before it: ask the supplier whether that is right; if "
    "it "
    "is, raise {rest}":
        "Het bestand heeft {n} rijen, meer dan {m} keer de {k} van de grootste levering hiervoor. Laat ons weten of "
        "dat "
        "klopt.",
    "{f}: the retention term of {a} ended on {b}: it may no longer be kept":
        "De bewaartermijn van {a} is op {b} verstreken: de levering mag niet meer worden bewaard.",
    "{f}: the name does not say which {kind} it covers (agreed: a name as {a}): rename it, or deliver it with "
    "{rest}":
        "De naam van het bestand zegt niet over welke periode ({kind}) het gaat. Afgesproken is een naam als {a}.",
    "--period {f} is no {kind}: write it as {a}": "De opgegeven periode is geen {kind}. Schrijf haar als {a}.",
}  # fmt: skip
"""English as the intake tells it, and Dutch. `{f}` is the delivery, which the report names itself."""

_CLAUSES = {
    "column `{a}` is missing": "kolom `{a}` ontbreekt",
    "column {a} has no name": "kolom {a} heeft geen naam",
    "column {a} is not in the contract (was `{b}` renamed?)":
        "kolom {a} staat niet in het contract (heet `{b}` nu anders?)",
    "column {a} is not in the contract": "kolom {a} staat niet in het contract",
    "and {n} more columns are not in the contract": "en nog {n} kolommen staan niet in het contract",
    "column `{a}` stands there twice": "kolom `{a}` staat er twee keer",
    "key {n} of record {m} is not in the contract (was `{b}` renamed?)":
        "sleutel {n} van record {m} staat niet in het contract (heet `{b}` nu anders?)",
    "key {n} of record {m} is not in the contract": "sleutel {n} van record {m} staat niet in het contract",
    "and {n} more": "en nog {n}",
}  # fmt: skip

_WORDS = {
    "a ZIP or XLSX file": "een ZIP- of XLSX-bestand", "a gzip file": "een gzip-bestand",
    "a Parquet file": "een Parquet-bestand", "a PDF": "een PDF", "a 7-Zip file": "een 7-Zip-bestand",
    "no namespace": "geen naamruimte", "at the top": "op het hoogste niveau",
    "in an unknown encoding": "in een onbekende codering",
}  # fmt: skip
"""What stands in a message without being a name or a number."""

UNTOLD = "De levering kon niet worden gelezen zoals is afgesproken. Neem contact met ons op. (Melding: {f})"
"""Of what no Dutch is known; nothing is kept back."""


def in_dutch(reason: str) -> str:
    """Why a delivery was refused, in Dutch sentences."""
    return _told(reason, _DUTCH) or UNTOLD.format(f=reason)


def _told(text: str, known: dict[str, str]) -> str | None:
    for english, dutch in known.items():
        found = _pattern(english).fullmatch(text)
        if found:
            parts = {name: _WORDS.get(part, part) for name, part in found.groupdict().items()}
            if "clauses" in parts:
                parts["clauses"] = "; ".join(_told(each, _CLAUSES) or each for each in parts["clauses"].split("; "))
            if "place" in parts:
                parts["place"] = re.sub("^under", "onder", parts["place"])
            if "share" in parts:
                parts["share"] = parts["share"].replace("%", "\u00a0%")
            return dutch.format(**parts)
    return None


@cache
def _pattern(english: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", english)
    named = [f"(?P<{piece}>.*?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces)]
    return re.compile("".join(named), re.DOTALL)
