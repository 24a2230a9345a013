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
# # Compare runs
#
# Point it at a results folder, from this machine or several days of a cluster: mean curves with confidence bands over
# seeds, what the result costs, how sensitive it is to a setting, and which diagnostics moved first. Where the folder
# holds no runs yet, a small demonstration is trained into it: about a minute on the embedded digits.

# %% tags=["parameters"]
results_dir = "results/compare"  # every run folder below it is read
benchmark = None  # default: the one with the most runs
baseline = "sgd"  # drawn in grey; its training time is 1
swept = "optimizer.lr"  # the config key of the sensitivity plot, by its dotted path
seeds = [0, 1, 2]  # of the demonstration
num_tasks = 16  # of the demonstration

# %%
from pathlib import Path

from lop import viz
from lop.notebook import check_parameters, show, show_verdict, summary
from lop.notebook.cost import costs
from lop.notebook.tables import only, option, unswept
from lop.plan import make_config, members
from lop.runner import run_population
from lop.runs import load

check_parameters()
if not any(Path(results_dir).rglob("config.json")):
    print("No runs yet: training a small demonstration.")
    small = {"benchmark.epochs": 1, "benchmark.num_tasks": num_tasks, "net.hidden": [50, 50], "run.threads": 1}
    small |= {"run.results_dir": results_dir, "run.device": "cpu"}
    for optimizer, steps in {"sgd": (0.03, 0.1, 0.3), "adam": (0.001, 0.003, 0.01), "adahessian": (0.02, 0.05)}.items():
        for lr in steps:
            given = {**small, "optimizer.lr": lr}
            config = make_config(benchmark="permuted_digits", optimizer=optimizer, overrides=given)
            run_population(members(config, seeds=seeds), summaries=False)

everything = load(results_dir)
benchmark = benchmark or everything.runs["benchmark"].mode()[0]
everything = only(everything, everything.runs.loc[everything.runs["benchmark"] == benchmark, "run"])
values = option(everything.runs, swept)
results = unswept(only(everything, viz.best_runs(everything.tasks, values)), swept)
tasks = results.tasks

# %% [markdown]
# Every method appears with its best value of the swept setting.

# %%
show_verdict(results, baseline)
show(viz.online_accuracy, tasks, baselines=[baseline])

# %%
show(viz.compare_optimizers, tasks, baselines=[baseline])

# %% [markdown]
# ## Sensitivity
# Average performance over the values of the swept setting, one line per optimizer. A method that only works in a
# narrow range has to be tuned again for every problem.

# %%
show(viz.sensitivity, everything.tasks, values, setting=swept, baselines=[baseline])

# %% [markdown]
# ## What does it cost?
# Equal steps are not equal time.

# %%
cost = costs(results, baseline)
show(viz.cost_and_result, results, baseline=baseline, costs=cost)

# %%
show(summary, results, baseline, cost)

# %% [markdown]
# The same for a paper:

# %%
print(viz.latex_table(viz.summary_table(results, baseline=baseline, costs=cost)))

# %% [markdown]
# ## Which diagnostics moved first?
# The task from which on a diagnostic stays outside three standard deviations of its first tasks. Those left of the
# dashed line warned before performance moved.

# %%
show(viz.order_of_moves, tasks, baselines=[baseline])

# %% [markdown]
# Each point is the rank correlation, over tasks, of a diagnostic at the start of a task with how well the task is then
# learned; an interval that holds zero says: not on this evidence. Right: the two strongest.

# %%
show(viz.diagnostics_vs_accuracy, tasks, baselines=[baseline])

# %% [markdown]
# ## Look around
# In a live notebook (not under papermill) a form appears here: choose runs, figure, diagnostics, layers and smoothing.

# %%
viz.explore(results_dir)
