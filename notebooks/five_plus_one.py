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
# # 5+1 CIFAR
#
# Hard tasks of five CIFAR-100 classes alternate with easy ones of a single class, no class twice (Kumar et al. 2023).
# The easy task invites the net to give up what the next hard one needs.
#
# Needs CIFAR-100: `python download_data.py cifar100`.

# %% tags=["parameters"]
benchmark = "five_plus_one_cifar"  # five_plus_one_cifar
methods = ["bp", "l2_init", "secondorder_sassha"]  # names of configs in lop-src/lop/five_plus_one/cfg
seeds = [0]
dataset = None  # None: CIFAR-100; or a path to CIFAR python files of your own (with "benchmark.verify": False)
overrides = {
    "benchmark.num_tasks": 6,
    "benchmark.steps_per_task": 100,
}  # a look; {} is the paper's 30 tasks of 780 steps
results_dir = "results/five_plus_one"
data_dir = None  # where data sets are looked for first
time_limit_hours = None  # stop cleanly before this; run again to go on

# %%
from lop import viz
from lop.notebook import run_parameters, show, show_by_task, show_diagnostics, show_verdict, summary
from lop.notebook.tables import hard_tasks

results = run_parameters(globals())
hard = hard_tasks(results)

# %%
show_verdict(hard, methods[0])
text = (
    "Easy tasks look easy: what is said above is of the hard ones, which have even numbers. So is all below to the why."
)
show(viz.online_accuracy, results.tasks, baselines=methods[:1], text=text)

# %%
show(viz.within_task, hard.online)
show(summary, hard, baseline=methods[0])
show_by_task(hard)

# %%
show_diagnostics(results, methods[0])
