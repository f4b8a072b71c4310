"""The register of processing activities (AVG 30), made from contracts and policy: no second administration.

One entry per purpose and delivery, and one per linkage: who answers for it, what is processed of whom, on what ground,
from whom it comes and to whom it goes, how long it stays, and how it is protected. What only the organisation can say
and did not is told as lacking.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from datafabriek.config import Settings
from quality.contracts.model import Contract, Purpose, load
from quality.formulas import neutral
from quality.norms import NormsError, load_norms
from quality.privacy.linkages import Linkage, read_linkages
from quality.privacy.policy import FILE, PrivacyPolicy, load_policy

PROTECTION = (
    "Identificerende gegevens blijven in een versleutelde kluis; per doel een eigen pseudoniem (AES-256-CMAC), alleen "
    "de kolommen die het doel vraagt, datums vergroofd; uitvoer alleen als beveiligde aantallen."
)

SENSITIVE = frozenset({"gevoelig", "strafrechtelijk"})
"""Privacy classes that the register names apart."""

LINKED_PROTECTION = (
    "Alleen de genoemde kolommen, onder pseudoniemen die nergens buiten deze koppeling gelden; na de laatste dag "
    "verwijderd; uitvoer alleen als beveiligde aantallen."
)


@dataclass(frozen=True)
class Activity:
    """One line of the register; the fields are those of AVG 30 lid 1, and the ground."""

    verwerkingsactiviteit: str
    verwerkingsverantwoordelijke: str
    functionaris_gegevensbescherming: str
    doel: str
    omschrijving: str
    grondslag: str
    betrokkenen: str
    levering: str
    leverancier: str
    eigenaar: str
    gegevens_in_de_kluis: str
    gegevens_voor_het_doel: str
    bijzondere_of_gevoelige_gegevens: str
    ontvangers: str
    doorgifte_naar_derde_landen: str
    bewaartermijn_kluis_maanden: int | str
    bewaartermijn_doel_maanden: int | str
    beveiliging: str = PROTECTION


def register(settings: Settings) -> list[Activity]:
    """All processing that this factory does, by activity number.

    Raises:
        PolicyError: a delivery is taken in without ground or retention: the register would be incomplete.
    """
    policy = load_policy(settings)
    shared = _Shared.of(settings, policy)
    found = []
    for name, delivery in settings.deliveries.items():
        contract = load(delivery.contract or name, settings.contract_folders)
        found += [_activity(policy, shared, name, contract, purpose.name) for purpose in policy.allowed(contract, name)]
    found += [_linking(settings, policy, shared, linkage) for linkage in read_linkages(settings)]
    return sorted(found, key=lambda activity: (activity.verwerkingsactiviteit, activity.levering))


@dataclass(frozen=True)
class _Shared:
    """What every line of the register has in common."""

    verwerkingsverantwoordelijke: str
    functionaris_gegevensbescherming: str
    ontvangers: str
    doorgifte_naar_derde_landen: str

    @classmethod
    def of(cls, settings: Settings, policy: PrivacyPolicy) -> _Shared:
        return cls(
            _or_lacking(policy.verwerkingsverantwoordelijke, "verwerkingsverantwoordelijke"),
            _or_lacking(policy.functionaris_gegevensbescherming, "functionaris_gegevensbescherming"),
            _recipients(settings),
            policy.doorgifte or "geen door de fabriek",
        )


def _or_lacking(value: str | None, key: str) -> str:
    return value or f"NIET INGEVULD: `{key}` in {FILE}"


def _recipients(settings: Settings) -> str:
    """Who gets what is made of the data: protected figures only, by the norms."""
    try:
        norms = load_norms(settings.policy_folder).doelgroepen
    except NormsError:
        return "geen: zonder normen in normen.yaml wordt niets geleverd"
    whom = [f"{own.naam} ({own.overeenkomst})" if own.naam else str(who) for who, own in norms.items()]
    return f"van persoonsgegevens geen; van beveiligde cijfers: {', '.join(whom)}"


def _linking(settings: Settings, policy: PrivacyPolicy, shared: _Shared, linkage: Linkage) -> Activity:
    contracts = {
        name: load(delivery.contract or name, settings.contract_folders)
        for name, delivery in settings.deliveries.items()
        if name in {table.delivery for table in linkage.tables}
    }
    return Activity(
        verwerkingsactiviteit=linkage.verwerkingsactiviteit,
        doel=f"koppeling {linkage.naam}",
        omschrijving=f"{linkage.omschrijving} Van {linkage.van} tot en met {linkage.tot}.",
        grondslag=f"{linkage.grondslag} (DPIA: {linkage.dpia})",
        betrokkenen="; ".join(
            f"{name}: {_or_lacking(purpose.betrokkenen, 'betrokkenen')}"
            for name, purpose in policy.doelen.items()
            if name in linkage.doelen
        ),
        levering=", ".join(f"{purpose} ({', '.join(tables)})" for purpose, tables in linkage.doelen.items()),
        leverancier=", ".join(dict.fromkeys(contract.supplier for contract in contracts.values())),
        eigenaar=", ".join(dict.fromkeys(contract.owner for contract in contracts.values())),
        gegevens_in_de_kluis="geen: gemaakt uit de tabellen van de doelen",
        gegevens_voor_het_doel="; ".join(f"{table.name}: {', '.join(table.columns)}" for table in linkage.tables),
        bijzondere_of_gevoelige_gegevens=", ".join(_sensitive(linkage, contracts)) or "geen",
        bewaartermijn_kluis_maanden="niet van toepassing",
        bewaartermijn_doel_maanden=f"tot en met {linkage.tot}",
        beveiliging=LINKED_PROTECTION,
        **asdict(shared),
    )


def _sensitive(linkage: Linkage, contracts: Mapping[str, Contract]) -> list[str]:
    """Columns of a linkage that follow from something sensitive."""
    return [
        f"{table.name}: {column.name}"
        for table in linkage.tables
        if (contract := contracts.get(table.delivery)) and table.purpose in contract.purposes
        for column in contract.purposes[table.purpose].columns
        if column.name in table.columns and any(contract[source].privacy in SENSITIVE for source in column.sources)
    ]


def _activity(policy: PrivacyPolicy, shared: _Shared, name: str, contract: Contract, purpose: str) -> Activity:
    settled = policy.purpose(purpose, name)
    sensitive = [c.name for c in contract.columns if c.privacy in SENSITIVE]
    return Activity(
        verwerkingsactiviteit=settled.verwerkingsactiviteit,
        doel=purpose,
        omschrijving=settled.omschrijving,
        grondslag=settled.grondslag,
        betrokkenen=_or_lacking(settled.betrokkenen, "betrokkenen"),
        levering=contract.title,
        leverancier=contract.supplier,
        eigenaar=contract.owner,
        gegevens_in_de_kluis=", ".join(contract.names),
        gegevens_voor_het_doel=_for(contract.purposes[purpose]),
        bijzondere_of_gevoelige_gegevens=", ".join(sensitive) or "geen",
        bewaartermijn_kluis_maanden=policy.leveringen[name].bewaartermijn_maanden,
        bewaartermijn_doel_maanden=settled.bewaartermijn_maanden,
        **asdict(shared),
    )


def _for(purpose: Purpose) -> str:
    told = [", ".join(column.name for column in purpose.columns)]
    if purpose.only:
        told.append(f"alleen waar {purpose.only}")
    if purpose.needed:
        when = ", op de peildata daarvan" if purpose.needed.dates else ""
        told.append(f"alleen van wie in {purpose.needed.delivery} voorkomt{when}")
    return "; ".join(told)


def as_csv(activities: Sequence[Activity]) -> str:
    """The register as CSV (`;`, for a spreadsheet)."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Activity.__dataclass_fields__), delimiter=";", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: neutral(str(value)) for name, value in asdict(each).items()} for each in activities)
    return out.getvalue()


def as_html(activities: Sequence[Activity], factory: str, *, example: bool) -> str:
    """The register as a page to print."""
    parts = [_HEAD.format(factory=html.escape(factory))]
    if example:
        parts.append("<p><em>Voorbeeld: grondslagen en termijnen zijn niet door een organisatie vastgesteld.</em></p>")
    for activity in activities:
        rows = "".join(
            f"<tr><th>{html.escape(name.replace('_', ' ').capitalize())}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in asdict(activity).items()
        )
        title = f"{activity.verwerkingsactiviteit} · {activity.doel} · {activity.levering}"
        parts.append(f"<section><h2>{html.escape(title)}</h2><table>{rows}</table></section>")
    return "\n".join([*parts, "</body></html>", ""])


_HEAD = """<!doctype html>
<html lang="nl"><head><meta charset="utf-8"><title>Register van verwerkingsactiviteiten</title>
<style>
body {{ margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem; color: #1b2733;
  font: 16px/1.5 system-ui, "Segoe UI", sans-serif; }}
table {{ border-collapse: collapse; width: 100%; }} h2 {{ margin: 2rem 0 .5rem; font-size: 1.15rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid #d8dee4; }}
th {{ width: 16rem; color: #5b6b7a; font-weight: 600; }} section {{ break-inside: avoid; }}
</style></head><body>
<h1>Register van verwerkingsactiviteiten</h1><p>{factory} · AVG artikel 30</p>"""
