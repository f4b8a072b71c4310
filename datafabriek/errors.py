"""What a user can cause or mend: every such error is a `FactoryError`, told in one message without a traceback."""

from __future__ import annotations


class FactoryError(Exception):
    """A failure with a cause and a remedy that the message names.

    Subclasses set `exit_code` where a script should be able to tell them apart: 1 for work that failed,
    2 for bad input or configuration, 3 for a factory in use, 4 for a source out of reach.
    """

    exit_code = 1
