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
# # Report of a study
#
# Methods tuned with the same budget on tuning seeds, compared on other seeds. The answer comes first, then what it is
# made of. What has not been trained yet is trained by the first cell, as `lop study -c FILE` does.

# %% tags=["parameters"]
study = "studies/small.yaml"  # the study's file
overrides = {}  # keys of that file by dotted path, e.g. {"evaluation.seeds": "0-9"}

# %% tags=["remove-cell"]
from pathlib import Path

from IPython.display import HTML, Markdown, display

from lop import viz
from lop.notebook import check_parameters, show
from lop.study import command, run_study
from lop.study.course import evaluation_runs, paper_differences, paper_table
from lop.study.figures import alike, drawn

check_parameters()
plan = command.read(study, overrides)
result, tables = run_study(plan, report=lambda line: None)
comparison = {name: tables.comparison[tables.comparison["benchmark"] == name] for name in plan.benchmarks}
colours = {name: alike(rows["method"], plan.reference) for name, rows in comparison.items()}
evaluated = {name: evaluation_runs(result, name) for name in plan.benchmarks}

# %% [markdown]
# ## Answer

# %%
display(Markdown(tables.answer.split("\n", 1)[1].replace("\n#", "\n##")))

# %% [markdown]
# ## Comparison
# Means over the evaluation seeds with 95% bootstrap intervals. *Early*, *late*: the first and the last fifth of the
# tasks; *change*: late minus early; *test*: after the late tasks; *equal time*: within the time that the reference
# takes for a task; *cost*: of a step, as a multiple of the reference's.

# %%
for name in plan.benchmarks:
    display(Markdown(f"**{name}**\n\n{viz.markdown_table(paper_table(tables.comparison, name))}"))

# %% [markdown]
# Equal steps and equal time side by side:

# %%
for name in plan.benchmarks:
    display(Markdown(f"**{name}**"))
    show(viz.study_scores, comparison[name], reference=plan.reference)
    show(viz.study_changes, comparison[name], reference=plan.reference)

# %% [markdown]
# Paired differences from the reference, by seed. *p*: two-sided sign-flip test; *p_holm*: corrected for the number of
# methods.

# %%
if len(tables.differences):
    display(paper_differences(tables.differences, tables.comparison))

# %% [markdown]
# ## Ranks over benchmarks

# %%
show(viz.study_ranks, tables.runs, reference=plan.reference)

# %% [markdown]
# ## Over the tasks

# %%
for name, found in evaluated.items():
    display(Markdown(f"**{name}**"))
    show(viz.online_accuracy, drawn(found.tasks, plan.drawn), **colours[name])

# %% [markdown]
# ## Tuning
# Every method tried its grid on the tuning seeds; a best value at the edge extends the grid by the same factor, by one
# rule for all. Bars: smallest and largest of the tuning seeds.

# %%
for name in plan.benchmarks:
    rows = tables.tuning[tables.tuning["benchmark"] == name] if len(tables.tuning) else tables.tuning
    display(Markdown(f"**{name}**"))
    measure = comparison[name]["measure"].replace("", "online_accuracy").iloc[0]
    show(viz.tuning_curves, rows, measure=measure)

# %%
display(HTML(tables.grids.to_html(index=False, na_rep="")))

# %% [markdown]
# ## Which diagnostics moved before performance did?
# The task from which on a diagnostic stays outside three standard deviations of its first tasks; dashed: performance.

# %%
for name, found in evaluated.items():
    display(Markdown(f"**{name}**"))
    show(viz.order_of_moves, drawn(found.tasks, plan.drawn), **colours[name])

# %% [markdown]
# ## Cost
# Seconds of a step, all methods of a benchmark timed in turn in one process.

# %%
if len(tables.costs):
    display(HTML(tables.costs.drop(columns="of").to_html(index=False, float_format="{:.4g}".format)))

# %% [markdown]
# ## Runs
# Every number's run folder, relative to the results folder; what failed says why.

# %%
print(Path(plan.results_dir).resolve())
columns = ["benchmark", "method", "purpose", "seed", "setting", "state", "mean", "folder", "detail"]
listed = tables.runs.reindex(columns=columns)
display(HTML(listed.to_html(index=False, na_rep="", float_format="{:.4f}".format)))

# %% [markdown]
# ## For a paper

# %%
for name in plan.benchmarks:
    print(viz.latex_table(paper_table(tables.comparison, name)))
