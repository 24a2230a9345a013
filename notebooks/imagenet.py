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
# # Continual ImageNet
#
# Every task is to tell two classes of ImageNet-32 apart that were not seen before (Dohare et al. 2024); the head
# starts at zero each time. `tiny_imagenet` streams subsets of Tiny ImageNet's 200 classes.
#
# Needs the images: `python download_data.py imagenet32` (or `tiny_imagenet`) says what to fetch and where to put it.

# %% tags=["parameters"]
benchmark = "imagenet"  # imagenet, tiny_imagenet
methods = [
    "bp",
    "cbp",
    "secondorder_sassha",
]  # names of configs in lop-src/lop/imagenet/cfg (and its folder tiny_imagenet)
seeds = [0]
dataset = None  # None: ImageNet-32 as a folder classes/ of 1,000 .npy files; or Tiny ImageNet's zip
overrides = {"benchmark.num_tasks": 5, "benchmark.epochs": 10}  # a look; {} is the paper's 2,000 tasks of 250 epochs
results_dir = "results/imagenet"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop.notebook import run_parameters, show_diagnostics, show_performance

results = run_parameters(globals())

# %%
show_performance(
    results,
    methods[0],
    text="In the paper a linear net reaches 77%: a deep one below it has lost more than depth gives.",
)

# %%
show_diagnostics(results, methods[0])
