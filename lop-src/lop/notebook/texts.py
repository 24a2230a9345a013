"""How to read the figures: what notebooks say above them."""

NUMBERS = (
    "*Online accuracy* is the share of examples predicted correctly **before** the update on them. The cost of a "
    "method stands beside its result: equal steps are not equal time."
)
WITHIN = "A plastic network learns the last task as fast as the first: its curves lie on top of each other."
FOLDED = "Unfold for the numbers behind the curves."
DIAGNOSTICS = (
    "Before (dotted) and after (solid) every task. Falling ranks, growing weights and dormant units (Dohare: active on "
    "less than 1% of the inputs) are the usual companions of lost plasticity. The map shows in which layer they are."
)
PREDICTION = (
    "Do the diagnostics at the start of a task tell how well it will be learned? Each point is the rank correlation "
    "over tasks; an interval that holds zero says: not on this evidence. Right: the two strongest."
)
EXPLORE = (
    "In a live notebook a form appears here: choose runs, figure, diagnostics, layers and smoothing. All figures are "
    "made of the CSV files in the run folders: `lop.load(folder)` reads them, and every figure takes such a table, so "
    "that runs of other days can be put into the same plot."
)
