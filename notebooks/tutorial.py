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
# # Loss of plasticity in ten minutes
#
# A network that learns task after task slowly loses its ability to learn. On a laptop, with data that scikit-learn
# ships: see it happen, see why, cure it, then add an optimizer of your own.
#
# **The tasks.** The same 1,797 handwritten digits every time, each time through a new random permutation of the pixels.
# No task is harder than another, and none helps with the next. A learner that keeps its plasticity scores the same on
# the last task as on the first.

# %% tags=["parameters"]
num_tasks = 40
seeds = [0, 1, 2]
results_dir = "results/tutorial"

# %%
import torch

from lop import viz
from lop.notebook import check_parameters, load_all, show, show_verdict, summary
from lop.optimizers import optimizer
from lop.optimizers.base import ClosureOptimizer
from lop.plan import make_config, members
from lop.runner import run_population

check_parameters()


def train(optimizer, algos=(), **options):
    """The runs of one method, one per seed, side by side; a run that is there already is not repeated."""
    settings = {"benchmark.num_tasks": num_tasks, "benchmark.epochs": 1, "run.results_dir": results_dir}
    settings |= {"run.device": "cpu", "run.threads": 1}
    settings |= {f"optimizer.{name}": value for name, value in options.items()}
    config = make_config(benchmark="permuted_digits", optimizer=optimizer, algos=list(algos), overrides=settings)
    return run_population(members(config, seeds=seeds), summaries=False)


# %% [markdown]
# ## See it happen
# Adam with a step size of 0.01: large, but a fresh network learns well with it.

# %%
adam = train("adam", lr=0.01)
seen = load_all(adam)
show(viz.online_accuracy, seen.tasks)

# %% [markdown]
# *Online accuracy* is the share of examples that are predicted correctly before the update on them. The tasks did not
# get harder: the network got worse at learning. Within a task:

# %%
show(viz.within_task, seen.online)

# %% [markdown]
# ## See why
# Before (dotted) and after (solid) every task, diagnostics of the network on a batch of the task:
#
# - **Dormant units** are active on less than 1% of the inputs: with ReLU they get no gradient and never come back.
# - The **effective rank** of the last hidden layer says in how many directions its features still vary.
# - **Weights** that grow make every later step, relative to them, smaller.
# - The **NTK** effective rank says how independently the outputs on different inputs can be changed; **churn** is how
#   far they moved during the task.

# %%
metrics = ["dormant_proportion", "eff_rank", "avg_weight_mag", "ntk_eff_rank", "ntk_churn"]
show(viz.dashboard_grid, seen.tasks, metrics=metrics)

# %% [markdown]
# Where the dormant units are, layer by layer:

# %%
show(viz.dormant_heatmap, seen.layers)

# %% [markdown]
# ## Cure it
# Interventions act on the network around any optimizer: `l2_init` pulls the weights to where they started (Kumar et al.
# 2023), `cbp` (continual backpropagation, Dohare et al. 2024) replaces the least useful units all the time,
# `shrink_and_perturb` (Ash & Adams 2020) shrinks all weights a little and adds noise.

# %%
cures = [
    *train("adam", [{"name": "l2_init", "weight": 0.01}], lr=0.01),
    *train("adam", [{"name": "cbp", "replacement_rate": 0.01}], lr=0.01),
    *train("adam", ["shrink_and_perturb"], lr=0.01),
]
cured = load_all([*adam, *cures])
show_verdict(cured, "adam")
show(viz.online_accuracy, cured.tasks, baselines=["adam"])

# %% [markdown]
# Not every medicine works in every dose: shrink and perturb keeps the weights small at this strength, but units fall
# dormant all the same. Its options, like all others, go into the braces.

# %%
show(viz.compare_optimizers, cured.tasks, baselines=["adam"])

# %%
show(viz.dashboard_grid, cured.tasks, metrics=["dormant_proportion", "avg_weight_mag"], baselines=["adam"])

# %% [markdown]
# ## Add your own optimizer
# One class, one line to register it. `params` and `grads` are lists of tensors; what is kept in `self.state` is saved
# with every checkpoint. This one is Adam on springs: every weight is pulled back to where it started, outside the
# gradient and its normalisation.


# %%
@optimizer("spring")
class SpringAdam(ClosureOptimizer):
    def __init__(self, model_or_params, *, lr: float = 0.01, pull: float = 0.01, seed: int = 0):
        super().__init__(model_or_params, {"lr": lr, "pull": pull}, seed=seed)

    @torch.no_grad()
    def _apply(self, params, grads):
        for p, g in zip(params, grads, strict=True):
            group, state = self._group_of(p), self.state[p]
            if not state:
                state.update(step=0, start=p.clone(), m=torch.zeros_like(p), v=torch.zeros_like(p))
            state["step"] += 1
            state["m"].lerp_(g, 0.1)
            state["v"].lerp_(g * g, 0.001)
            m = state["m"] / (1 - 0.9 ** state["step"])
            v = state["v"] / (1 - 0.999 ** state["step"])
            p.lerp_(state["start"], group["pull"])
            p.sub_(group["lr"] * m / (v.sqrt() + 1e-8))


# %%
mine = train("spring", lr=0.01, pull=0.01)
everything = load_all([*adam, *cures, *mine])
show(viz.online_accuracy, everything.tasks, baselines=["adam"])

# %%
show(summary, everything, baseline="adam")

# %% [markdown]
# **Go on:** `run-expr` runs any optimizer on any benchmark, `notebooks/compare` compares a folder of runs, and
# `python lop-src/main.py sweep -c grid.yaml` fills one.
