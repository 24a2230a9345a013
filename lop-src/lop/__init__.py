"""Loss of plasticity: continual training with second-order optimizers, interventions and diagnostics."""

__version__ = "0.1.0"
