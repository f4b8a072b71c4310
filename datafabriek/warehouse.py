"""DuckDB connections: the warehouse, and the encrypted vault.

Belongs here: how a database is opened, with which limits and safeguards. Does not belong here: any table.
No warehouse connection may be open while dbt runs, and every connection is a short `with` block.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from datafabriek.errors import FactoryError

if TYPE_CHECKING:  # the configuration takes a quarter of a second to import
    from datafabriek.config import Home, Resources

VAULT = "vault"
"""Name under which the vault is attached."""

OFFLINE = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""DuckDB's settings under which it fetches no code over the network."""

_STORAGE = "v1.5.0"
"""The form in which a new database is written: text takes a third less work than in the form that any client reads.

What is published says its own form (`STORAGE_VERSION`), and a file that is there keeps its own until it is rewritten.
"""


class WarehouseError(FactoryError):
    """A database that cannot be opened: the message says why and what to do."""


def extension_path(name: str) -> Path:
    """Where the wheel of a DuckDB extension keeps its binary, so that nothing is downloaded.

    Args:
        name: `httpfs`, `postgres_scanner` or `spatial`.

    Raises:
        WarehouseError: the wheel is not installed for this DuckDB.
    """
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or spec.origin is None:
        raise WarehouseError(f"the package duckdb-extension-{name.replace('_', '-')} is missing: run `make venv`")
    path = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.is_file():
        raise WarehouseError(f"duckdb-extension-{name} does not fit DuckDB {duckdb.__version__}: run `make venv`")
    return path


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its wheel; no network."""
    connection.execute(f"LOAD {literal(str(extension_path(name)))}")


@functools.cache
def _vouched(path: Path) -> Path:
    """An extension whose signature is right: looked at once a process, for it takes longer than many a query.

    Raises:
        WarehouseError: it is not signed by DuckDB's own key.
    """
    with duckdb.connect(":memory:") as connection:
        try:
            connection.execute(f"LOAD {literal(str(path))}")
        except duckdb.Error as error:
            raise WarehouseError(f"{path} cannot be loaded ({type(error).__name__}): run `make venv`") from None
    return path


def let_spill(connection: duckdb.DuckDBPyConnection) -> None:
    """Make encrypted spill files possible, and nothing over the network.

    DuckDB's built-in crypto only reads: without httpfs, whose files it is not loaded for, a query that outgrows its
    memory under `temp_file_encryption` fails instead of spilling.
    """
    load_extension(connection, "httpfs")
    connection.execute("SET disabled_filesystems = 'HTTPFileSystem,S3FileSystem,HuggingFaceFileSystem'")


def literal(text: str) -> str:
    """A text as an SQL string literal, for the few statements that take no parameter."""
    return "'" + text.replace("'", "''") + "'"


def quoted(identifier: str) -> str:
    """An identifier in double quotes, safe for any name."""
    return '"' + identifier.replace('"', '""') + '"'


def safeguards(home: Home, resources: Resources) -> dict[str, str]:
    """DuckDB's settings for whatever holds rows of the factory: its own connections, and those of dbt."""
    # spill files hold rows: without encryption they would stand in plain on disk
    spill = {"temp_file_encryption": "true", "temp_directory": str(home.temp)}
    threads = {"threads": str(resources.threads)} if resources.threads else {}
    storage = {"storage_compatibility_version": _STORAGE}
    return {**OFFLINE, **spill, **storage, "memory_limit": resources.memory_limit, **threads}


def _connect(target: str, home: Home, resources: Resources, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {**safeguards(home, resources)}
    config["allow_unsigned_extensions"] = "true"  # the one that is loaded has been looked at
    _vouched(extension_path("httpfs"))
    try:
        connection = duckdb.connect(target, read_only=read_only, config=config)
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise WarehouseError(f"{target} is open in another program: close it there, then try again") from None
        raise WarehouseError(f"{target} cannot be opened: {error}") from None
    let_spill(connection)
    return connection


@contextmanager
def tuned(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, int]) -> Iterator[None]:
    """Let a database work by these settings of DuckDB within the block, and by its own again after it."""
    # told in the text: to bind a parameter DuckDB imports numpy and pandas
    asked = ", ".join(f"current_setting({literal(name)})" for name in settings)
    usual = dict(zip(settings, connection.execute(f"SELECT {asked}").fetchall()[0], strict=True))
    try:
        for name, value in settings.items():
            connection.execute(f"SET {name} = {value}")
        yield
    finally:
        with suppress(duckdb.TransactionException):  # in a failed transaction nothing can be said: it stays so
            for name, value in usual.items():
                connection.execute(f"SET {name} = {value}")


def by_the_piece(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    """Let a database write rows that come in by the piece while the next piece is made.

    With one thread: a second mostly waits, at full power. And at once, not five row groups later or at the commit.
    """
    return tuned(connection, {"threads": 1, "write_buffer_row_group_count": 1})


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All that is done in the block, or nothing of it."""
    connection.begin()
    try:
        yield
    except BaseException:  # an interrupt too: the connection may live on
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def memory(home: Home, resources: Resources) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with the same limits and safeguards, gone at the end of the block."""
    connection = _connect(":memory:", home, resources)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def warehouse(home: Home, resources: Resources, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """An open warehouse, closed at the end of the block.

    Raises:
        WarehouseError: the file is missing (read-only), locked by another program, or no DuckDB file.
    """
    if read_only and not home.warehouse.exists():
        raise WarehouseError(f"{home.warehouse} does not exist yet: run `datafabriek run` first")
    home.warehouse.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = _connect(str(home.warehouse), home, resources, read_only=read_only)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def vault(
    home: Home, resources: Resources, key: bytes, *, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the encrypted vault attached as `vault`; its memory database is for work in passing.

    Args:
        home: the factory's folders.
        resources: limits of the connection.
        key: 32 bytes, bound as a parameter so that it stands in no SQL text.
        read_only: nothing is made or changed; the vault has to be there.

    Raises:
        WarehouseError: the key does not open the vault.
    """
    if not read_only:
        home.vault.mkdir(parents=True, exist_ok=True, mode=0o700)
    with memory(home, resources) as connection:
        try:
            options = "ENCRYPTION_KEY ?, READ_ONLY" if read_only else "ENCRYPTION_KEY ?"
            attach = f"ATTACH {literal(str(home.vault_database))} AS {VAULT} ({options})"
            connection.execute(attach, [key.hex()])
        except duckdb.Error as error:
            if "key" in str(error).lower():
                remedy = "restore the right key with `datafabriek key restore`"
                raise WarehouseError(f"the key does not open {home.vault_database}: {remedy}") from None
            raise WarehouseError(f"the vault {home.vault_database} cannot be opened: {error}") from None
        if not read_only:
            home.vault_database.chmod(0o600)
        yield connection


def rewrite_warehouse(home: Home, resources: Resources) -> None:
    """Write the warehouse anew, so that what was deleted stands in no old block; swapped in one step.

    No other connection may be open.
    """
    if home.warehouse.exists():
        connection = _connect(":memory:", home, resources)
        _rewrite(connection, home.warehouse, "warehouse", "", [])


def rewrite_vault(home: Home, resources: Resources, key: bytes) -> None:
    """The same for the vault; `key` is its 32 bytes."""
    if home.vault_database.exists():
        connection = _connect(":memory:", home, resources)
        _rewrite(connection, home.vault_database, VAULT, " (ENCRYPTION_KEY ?)", [key.hex()])


def _rewrite(connection: duckdb.DuckDBPyConnection, path: Path, name: str, options: str, values: list[str]) -> None:
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.unlink(missing_ok=True)
    try:
        try:
            # under its own name: views hold it
            connection.execute(f"ATTACH {literal(str(path))} AS {name}{options}", values)
            connection.execute(f"ATTACH {literal(str(fresh))} AS fresh{options}", values)
            fresh.chmod(0o600)
            connection.execute(f"COPY FROM DATABASE {name} TO fresh")
            connection.execute("CHECKPOINT fresh")
        finally:
            connection.close()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
        fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)
