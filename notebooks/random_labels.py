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
# # Random labels
#
# The same 1,200 images, new random labels in every task: pure memorising, which a fresh net does easily and a worn one
# does not (Kumar et al. 2023; Lyle et al. 2023).
#
# The defaults are a short look on the embedded digits; for the paper's benchmark `python download_data.py mnist`,
# `dataset = None` and `overrides = {}`.

# %% tags=["parameters"]
benchmark = "random_label_mnist"  # random_label_mnist, random_label_cifar
methods = ["bp", "l2_init", "secondorder_sassha"]  # names of configs in lop-src/lop/random_labels/cfg/mnist (or cifar)
seeds = "0-2"
dataset = "digits"  # "digits" is embedded; None: MNIST (random_label_cifar: CIFAR-10)
overrides = {
    "benchmark.num_tasks": 8,
    "benchmark.epochs": 15,
    "run.threads": 1,
}  # {} is the paper's 50 tasks of 400 epochs
results_dir = "results/random_labels"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop.notebook import run_parameters, show_diagnostics, show_performance

results = run_parameters(globals())

# %%
show_performance(results, methods[0], text="Online accuracy of a task: how fast the labels are memorised.", within=True)

# %%
show_diagnostics(results, methods[0])
