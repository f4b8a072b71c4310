"""Checks on a candidate: the Great Expectations suites and the second look, as Dagster check results."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from quality.expectations import SuiteResult


def suites_hold(results: Sequence[SuiteResult]) -> dg.AssetCheckResult:
    """Whether every suite is met; metadata holds counts and names of expectations, never values."""
    failed = {item.table: ", ".join(item.failed) for item in results if item.failed}
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{table}: {what}" for table, what in failed.items()) or None,
        metadata={
            "tabellen": len(results),
            "verwachtingen": sum(item.evaluated for item in results),
            "niet_gehaald": sum(len(item.failed) for item in results),
        },
    )


def nothing_found(count: int, told: str) -> dg.AssetCheckResult:
    """Whether the second look found nothing; `told` names checks and tables."""
    return dg.AssetCheckResult(
        passed=count == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=told or None,
        metadata={"bevindingen": count},
    )


def everything_fresh(stale: Sequence[str]) -> dg.AssetCheckResult:
    """Whether no table is carried over or missing; a warning, since the release itself goes on."""
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(stale) or None,
        metadata={"verouderd_of_ontbrekend": len(stale)},
    )
