"""Controls at task boundaries: what the optimizer has gathered is forgotten, or only its step count."""

from __future__ import annotations

from lop.algos.base import Intervention, intervention


@intervention("optimizer_reset")
class OptimizerReset(Intervention):
    """At each task's end the optimizer is as newly built: moments, step counts, curvature, TRAC's reference.

    The weights stay, and so do options and the generator of its probes. Many published comparisons do this for every
    method; here it is one of its own. Cost: none.
    """

    def end_task(self, task) -> None:
        self.host.optimizer.forget()


@intervention("adam_rel")
class AdamRel(Intervention):
    """At each task's end the optimizer's step counts are 0 again, its moments stay.

    Bias corrections then divide moments that are not young: Adam's first steps are smaller by sqrt(1-b2) / (1-b1), 0.32
    with the usual betas, and grow back. Optimizers without bias corrections are not changed.
    Ellis et al. (2024), "Adam on local time: Addressing nonstationarity in RL with relative Adam timesteps", who begin
    anew with each PPO update or target network; here it is with each task. Cost: none.
    """

    def end_task(self, task) -> None:
        self.host.optimizer.restart_clock()
