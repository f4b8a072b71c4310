"""What can go wrong between the factory and CBS; every message names the table, the cause and the remedy."""

from __future__ import annotations

from datafabriek.errors import FactoryError


class CbsError(FactoryError):
    """A table of CBS that could not be taken in; the version that landed before is left in place."""


class CbsUnreachableError(CbsError):
    """CBS does not answer, or only with errors, after all retries."""

    exit_code = 4


class UnknownTableError(CbsError):
    """No catalogue of CBS holds this table id; the message suggests ids that resemble it."""

    exit_code = 2


class BadFilterError(CbsError):
    """A filter that the table or the protocol does not understand."""

    exit_code = 2


class BadReplyError(CbsError):
    """CBS answers, but what it answers cannot be right: cut short, counted wrong, or twice the same page."""

    exit_code = 4


class LandingError(CbsError):
    """What came in could not be written: a full disk, or a folder without rights."""
