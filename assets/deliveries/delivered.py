"""What all that handles deliveries shares and that weighs nothing: `status` needs no engine to tell what came in."""

from __future__ import annotations

from datafabriek.errors import FactoryError

LINE = "_regel"
"""Column with the number of the line (or record) in the file, header included, from 1."""


class DeliveryError(FactoryError):
    """A delivery that cannot be taken in as a whole: the message names file, place, cause and remedy."""

    exit_code = 2
