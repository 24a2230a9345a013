"""What the notebooks share: where they run, the configs that their parameters mean, and how they show results."""

from lop.notebook import texts
from lop.notebook.asking import ask
from lop.notebook.display import describe, show, show_by_task, show_diagnostics, show_performance, show_verdict
from lop.notebook.estimate import preview
from lop.notebook.parameters import check_parameters
from lop.notebook.places import hand_out
from lop.notebook.runs import bring_earlier, load_all, run_all, run_methods, run_parameters
from lop.notebook.tables import summary
from lop.plan import plan
from lop.utils.place import place

__all__ = [
    "ask",
    "bring_earlier",
    "check_parameters",
    "describe",
    "hand_out",
    "load_all",
    "place",
    "plan",
    "preview",
    "run_all",
    "run_methods",
    "run_parameters",
    "show",
    "show_by_task",
    "show_diagnostics",
    "show_performance",
    "show_verdict",
    "summary",
    "texts",
]
