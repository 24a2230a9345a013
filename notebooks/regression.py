# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Slowly changing regression
#
# The smallest problem that shows loss of plasticity (Dohare et al. 2024): 20 binary inputs, 15 of which change only
# every 10,000 examples, a fixed random target network, and a learner of five hidden units that could never represent
# it exactly, so it must keep tracking. The data are generated.

# %% tags=["parameters"]
benchmark = "slowly_changing_regression"  # slowly_changing_regression
methods = ["relu", "relu_step_size_0.003", "linear"]  # names of configs in lop-src/lop/slowly_changing_regression/cfg
seeds = "0-4"  # single runs vary much
overrides = {"benchmark.num_tasks": 20}  # {} is the paper's million examples
results_dir = "results/regression"
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop.notebook import run_parameters, show_diagnostics, show_performance

results = run_parameters(globals())

# %%
show_performance(
    results,
    methods[0],
    text="Squared error, a point per 10,000 examples; a learner without plasticity falls back to the linear one.",
)

# %%
show_diagnostics(
    results,
    methods[0],
    "Every dormant unit is a fifth of the net; the linear learner has none, but cannot do better than a plane.",
)
