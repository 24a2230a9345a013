"""A callback for Lightning: the diagnostics of `lop.Monitor` at every so many epochs. Needs the extra `lightning`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lop.monitor import Monitor
from lop.utils.errors import UserError
from lop.utils.ranges import COUNT, require

try:
    import lightning.pytorch as pl
except ImportError:
    raise UserError("lop.lightning needs Lightning: pip install lightning") from None


class PlasticityCallback(pl.Callback):
    """Measures before and after every stretch of `every` epochs, and logs what it finds as `plasticity/eff_rank`, ...

    x, y: examples to measure on, as the model takes them. loss: as for `Monitor`. submodule: name of the part of the
    LightningModule that takes x and returns outputs; None: the module itself. options: the other options of `Monitor`.
    `monitor` holds the tables; None before the fit has begun.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        loss: Any = "cross_entropy",
        *,
        every: int = 1,
        submodule: str | None = None,
        **options: Any,
    ):
        require(COUNT, every=every)
        self.x, self.y, self.loss, self.every = x, y, loss, every
        self.submodule, self.options = submodule, options
        self.monitor: Monitor | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch % self.every:
            return
        if self.monitor is None:
            self.monitor = Monitor(self._model(pl_module), self.loss, **self.options)
        self.monitor.before(self.x.to(pl_module.device), self.y.to(pl_module.device))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if self.monitor is None or ((trainer.current_epoch + 1) % self.every and not last):
            return
        values = self.monitor.after()
        numbers = {f"plasticity/{name}": value for name, value in values.items() if isinstance(value, float)}
        pl_module.log_dict(numbers)

    def _model(self, pl_module: pl.LightningModule) -> nn.Module:
        if self.submodule is None:
            return pl_module
        try:
            return pl_module.get_submodule(self.submodule)
        except AttributeError:
            raise UserError(f"PlasticityCallback: submodule {self.submodule!r} is not in the LightningModule") from None
