"""What the notebooks share: where they run, the configs that their parameters mean, and how they show results."""

from lop.notebook.display import describe, show, show_diagnostics, show_performance
from lop.notebook.parameters import check_parameters
from lop.notebook.runs import bring_earlier, load_all, run_all, run_methods, run_parameters
from lop.notebook.tables import summary
from lop.plan import plan
from lop.utils.place import place

__all__ = [
    "bring_earlier",
    "check_parameters",
    "describe",
    "load_all",
    "place",
    "plan",
    "run_all",
    "run_methods",
    "run_parameters",
    "show",
    "show_diagnostics",
    "show_performance",
    "summary",
]
