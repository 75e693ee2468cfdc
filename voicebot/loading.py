"""Imports modules that themselves import many others."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Any


def load(module: str) -> Any:
    """Import a module without collecting garbage meanwhile.

    The objects of modules live as long as the process, and to visit them again and again takes a quarter of
    the time of the import.
    """
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()
