"""Run every benchmark, or those named: `python -m bench [cbs_v4 …]`."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench


def run() -> None:
    names = sys.argv[1:] or [module.name for module in pkgutil.iter_modules(bench.__path__)]
    for name in names:
        if name != "__main__":
            measured = getattr(importlib.import_module(f"bench.{name}"), "main", None)
            if measured is not None:
                measured()


run()
