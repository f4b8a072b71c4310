"""How a table or an audit is refused: always with the cell, the cause and the remedy."""

from __future__ import annotations

from datafabriek.errors import FactoryError


class DisclosureError(FactoryError):
    """Input that cannot be judged: a malformed table, a spec that contradicts itself, a missing norm."""

    exit_code = 2


class MalformedTable(DisclosureError):  # noqa: N818
    """A table that is not a table: the message names the first offending cell."""


class NotProtected(DisclosureError):  # noqa: N818
    """No safe pattern was found, or the audit did not pass: nothing may be released.

    Attributes:
        cells: names of the cells in doubt, worst first.
    """

    exit_code = 1

    def __init__(self, message: str, cells: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.cells = cells
