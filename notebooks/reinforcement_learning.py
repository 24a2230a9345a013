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
# # Does a policy stay able to learn?
#
# In reinforcement learning the data change with the policy, so an agent meets a new problem all the time even where
# the world stays as it is, and PPO trained for long enough collapses (Dohare et al. 2024). This notebook trains PPO on
# a MuJoCo robot with several optimizers and interventions, the same as everywhere in this project, and shows returns,
# dormant units, ranks, weights, and how far the policy moves. `rl_slippery_ant` changes the friction of the floor too,
# `rl_cartpole`, `rl_acrobot` and `rl_lunar_lander` shift the observations in every task, `rl_minatar` changes the game.
#
# The defaults are a demonstration of a few minutes. Loss of plasticity shows after millions of steps: raise
# `num_tasks` (tasks of `task_steps` environment steps), and run the same notebook again to go on where it stopped.

# %% tags=["parameters"]
benchmark = "rl_hopper"  # rl_ant, rl_walker, rl_slippery_ant; rl_cartpole, rl_acrobot, rl_lunar_lander, rl_minatar
methods = ["std", "sassha_sdp"]  # names of configs in lop-src/lop/rl/cfg/hopper; cartpole: adam, sassha, scratch
seeds = [0]
num_tasks = 4
task_steps = 10240
overrides = {}  # anything else by its path in the config, e.g. {"net.init": "orthogonal", "optimizer.lr": 3e-4}
results_dir = "results/rl"
time_limit_hours = None  # stop cleanly before this
threads = 1  # of torch: the nets are small, more threads seldom help
movie_seconds = 4.0  # simulated time of the rollout shown at the end; 0: none

# %%
from IPython.display import display

from lop import viz
from lop.notebook import run_parameters, show, show_by_task, show_verdict
from lop.notebook.film import film
from lop.utils.errors import UserError

device = "cpu"  # the nets are small, and the environments run there
overrides = {"benchmark.task_steps": task_steps, **overrides}
results = run_parameters(globals())
tasks, baseline = results.tasks, methods[:1]

# %%
show_verdict(results, methods[0])
text = "Undiscounted return per episode of the policy in training; vertical lines part the tasks."
show(viz.online_curve, results.online, baselines=baseline, text=text)

# %%
if "scratch" in methods and len(tasks):  # a new net in every task, of discrete actions
    text = "Left the mean return of every task, right what a method gains or loses against beginning anew there."
    heading = "Forward transfer"
    show(viz.forward_transfer, tasks, reference="scratch", baselines=baseline, heading=heading, text=text)

# %%
columns = ["online_return", "online_length", "policy_kl", "weight_change", "dormant_proportion_after"]
show_by_task(results, columns)

# %%
text = "*Policy churn* is the mean KL divergence between the policy at the start of a task and at its end, on "
text += "observations of the task's first rollout. A policy that still learns moves; one that jumps forgets."
show(viz.policy_over_time, tasks, baselines=baseline, heading="The policy and its net", text=text)

# %%
text = (
    "Diagnostics before (dotted) and after (solid) every task. *Churn* here is the mean squared change of all outputs, "
)
text += "the values included."
show(viz.dashboard_grid, tasks, baselines=baseline, text=text)

# %%
text = "The layers `value0`, `value1` are those of the value net, `policy0`, `policy1` those of the policy."
show(viz.layer_ranks, results.layers, text=text)
show(viz.dormant_heatmap, results.layers)

# %% [markdown]
# ## What it learned
# One episode of the first method's policy, with its mean actions.

# %%
if movie_seconds and len(tasks):
    try:
        display(film(results.runs["folder"][0], seconds=movie_seconds))
    except UserError as error:
        print(error)
