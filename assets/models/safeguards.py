"""What every connection of dbt gets before a model runs on it (a dbt-duckdb plugin, named in profiles.yml).

A model reads and writes the warehouse and nothing else: no file of a delivery, no other database, no network, and so
no table that lineage, policy and the checks do not know of.
"""

from __future__ import annotations

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from datafabriek.warehouse import let_spill, literal


class Plugin(BasePlugin):
    """Encrypted spill files, and no way out of the warehouse."""

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Close a fresh connection; `seeds` in the plugin's own settings is the one folder that may be read."""
        let_spill(conn)
        conn.execute(f"SET allowed_directories = [{literal(self._seeds)}]")
        conn.execute("SET enable_external_access = false")

    def initialize(self, plugin_config: dict[str, str]) -> None:
        """Keep the settings."""
        self._seeds = plugin_config["seeds"]
