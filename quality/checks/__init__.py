"""Thin Dagster asset checks: each asserts one fact about a table, and is named as that fact."""
