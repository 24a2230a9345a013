"""Interventions by name: one file each, registered with `@intervention`."""

from lop.algos.base import INTERVENTIONS, Intervention, intervention
from lop.utils.registry import import_modules

import_modules(__name__, __path__)

__all__ = ["INTERVENTIONS", "Intervention", "intervention"]
