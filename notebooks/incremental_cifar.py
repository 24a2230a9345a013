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
# # Class-incremental CIFAR-100
#
# Five classes at first, five more at every increment; the net keeps what it has learned and must go on learning
# (Dohare et al. 2024). The test is against a net retrained from scratch.
#
# Needs CIFAR-100: `python download_data.py cifar100`. One increment of the paper's length takes a GPU about an hour;
# the defaults only show that everything is in place.

# %% tags=["parameters"]
benchmark = "incremental_cifar"  # incremental_cifar
methods = [
    "base_deep_learning_system",
    "shrink_and_perturb",
    "sassha_nosdp",
]  # names of configs in lop-src/lop/incremental_cifar/cfg
seeds = [0]
dataset = None  # None: CIFAR-100; or a path to CIFAR python files of your own (with "benchmark.verify": False)
overrides = {"benchmark.num_tasks": 2, "benchmark.epochs": 1}  # a look; {} is the paper's 20 increments of 200 epochs
results_dir = "results/incremental_cifar"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop.notebook import run_parameters, show_diagnostics, show_performance

results = run_parameters(globals())

# %%
show_performance(
    results, methods[0], text="Accuracy on the classes seen so far; an increment is a task here.", within=True
)

# %%
show_diagnostics(
    results, methods[0], "In the paper, the base system ends with 56% dormant units and a stable rank of 75 of 100."
)
