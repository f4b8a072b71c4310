"""Marts as dbt, contracts and norms describe them: what each holds, rests on, may go to, and can be trusted for.

Belongs here: reading that. Does not belong here: any figure of a mart (assets.release.admission), and protecting it
(assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assets.models.runner import NodeResult, ancestors, attached_to, last_manifest, last_results, text_of
from datafabriek.config import Settings
from quality.contracts.model import Contract, find_contracts
from quality.contracts.model import read as read_contract
from quality.norms import Audience, Norms, NormsError

SCHEMA = "marts"


@dataclass(frozen=True)
class Mart:
    """A mart as its dbt model describes it.

    Attributes:
        name: of the table in schema marts.
        description: what it holds, in Dutch.
        columns: description per column.
        disclosure: the spec as written; None where the model states none.
        is_public: made from CBS's public tables and seeds alone, as dbt's lineage proves.
        sources: the raw tables it rests on, as `schema.table`.
        tests: dbt's names of the tests on it and on what it is made of.
        models: dbt's names of the model and of those it is made of.
    """

    name: str
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    disclosure: Mapping[str, Any] | None = None
    is_public: bool = False
    sources: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def read_marts(settings: Settings) -> list[Mart]:
    """Every enabled mart with its spec and lineage, from dbt's manifest; none where dbt has not parsed yet."""
    manifest = last_manifest(settings.paths)
    if manifest is None:
        return []
    parents: dict[str, list[str]] = manifest["parent_map"]
    nodes: dict[str, Any] = manifest["nodes"]
    marts = []
    for key, node in sorted(nodes.items()):
        if node["resource_type"] != "model" or node["schema"] != SCHEMA:
            continue
        lineage = ancestors(manifest, key)
        sources = [manifest["sources"][name] for name in lineage if name.startswith("source.")]
        others = [name for name in lineage if not name.startswith(("source.", "model.", "seed."))]
        meta = node["config"].get("meta") or node.get("meta") or {}
        marts.append(
            Mart(
                name=node["alias"] if node.get("alias") else node["name"],
                description=" ".join(node.get("description", "").split()),
                columns={
                    name: " ".join(column.get("description", "").split()) for name, column in node["columns"].items()
                },
                disclosure=meta.get("disclosure"),
                is_public=not others and all(source["schema"] == "raw_cbs" for source in sources),
                sources=tuple(sorted(f"{each['schema']}.{each.get('identifier') or each['name']}" for each in sources)),
                tests=tuple(
                    name
                    for name, test in nodes.items()
                    if test["resource_type"] == "test" and lineage.intersection(parents.get(name, []))
                ),
                models=tuple(sorted(name for name in lineage if name.startswith(("model.", "seed.")))),
            )
        )
    return marts


def entitled(marts: Sequence[Mart], norms: Norms, audience: Audience) -> list[Mart]:
    """The marts that may go to an audience; what a partner's agreement names and no model makes is among them, bare.

    Raises:
        NormsError: the audience has no norms.
    """
    norms.steps(audience)
    named = norms.doelgroepen[audience].tabellen
    lacking = [Mart(name) for name in named if name not in {mart.name for mart in marts}]
    return [mart for mart in marts if norms.entitled(audience, mart.name)] + lacking


def suppliers(settings: Settings, norms: Norms, marts: Sequence[Mart]) -> dict[str, str]:
    """Who supplies each delivery of the factory and each that a mart rests on: what its contract says, else itself.

    Raises:
        NormsError: the norms name a supplier that no contract knows.
        ContractError: a contract that cannot be used.
    """
    names = {*settings.deliveries, *(register for mart in marts for register in registers(mart))}
    contracts = contracts_of(settings, names)
    found = {name: (contracts[name].supplier if name in contracts else "") or name for name in sorted(names)}
    named = norms.aanvaller.leveranciers
    if not isinstance(named, str) and (unknown := sorted(set(named) - set(found.values()))):
        raise NormsError(
            f"aanvaller.leveranciers: no contract has {', '.join(unknown)} as its leverancier, so nobody can say what "
            f"they know and nothing is released; known are {', '.join(sorted(set(found.values()))) or 'none'}"
        )
    return found


def contracts_of(settings: Settings, deliveries: Iterable[str]) -> dict[str, Contract]:
    """The contract of each delivery that has one.

    Raises:
        ContractError: a contract that cannot be used.
    """
    known, found = find_contracts(settings.contract_folders), {}
    for name in sorted(deliveries):
        own = settings.deliveries.get(name)
        if path := known.get((own and own.contract) or name):
            found[name] = read_contract(path)
    return found


def registers(mart: Mart) -> set[str]:
    """The deliveries that a mart rests on."""
    public = ("raw_cbs.", "raw_leveringen.")
    return {source.partition(".")[2] for source in mart.sources if not source.startswith(public)}


def failures(settings: Settings, marts: Sequence[Mart]) -> dict[str, str]:
    """Marts that cannot be trusted, with the reason: what failed in the newest dbt build, and what no build told of.

    A mart, a model that it is made of and every test on those must have a good result. A test that was last done
    before its model was last made says nothing of the table as it is. The text of each model must be what it was last
    made from: an approval is of the text, and the table could be of another that was put back since.
    """
    manifest, results = last_manifest(settings.paths) or {"nodes": {}}, last_results(settings.paths)
    found = {}
    for mart in marts:
        made = [results.get(name) for name in mart.models]
        tested = {name: results.get(name) for name in mart.tests}
        if not all(result and result.is_good for result in made):
            found[mart.name] = "het model, of een model waar het op rust, kon niet worden vernieuwd"
        elif any(results[name].text != text_of(manifest, name) for name in mart.models):
            found[mart.name] = "het model, of een model waar het op rust, is gewijzigd sinds de tabel is gemaakt"
        elif not all(result and result.is_good for result in tested.values()):
            found[mart.name] = "een toets op het model, of op een model waar het op rust, is niet gehaald"
        elif any(_is_older(manifest, results, name) for name in mart.tests):
            found[mart.name] = "een toets op het model, of op een model waar het op rust, is ouder dan de tabel"
    return found


def _is_older(manifest: Mapping[str, Any], results: Mapping[str, NodeResult], test: str) -> bool:
    judged = attached_to(manifest, manifest["nodes"][test])
    return judged is not None and judged in results and results[test].at < results[judged].at
