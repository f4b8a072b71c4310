"""The open data factory for Dutch municipalities and provinces: configuration, ground floor and entry points."""

__version__ = "0.1.0"
