"""Dormant, tau-dormant and dead units of hand-made activations."""

import pytest
import torch

from lop.metrics.units import active_share, dead_units, dormant_units, feature_norm, tau_dormant_units


def test_active_share_counts_examples_and_positions():
    features = torch.zeros(5, 3, 2, 2)
    features[0, 0, 1, 1] = -2.0  # negative is active: not zero
    features[:, 1] = 1.0
    assert active_share(features).tolist() == pytest.approx([1 / 20, 1, 0])


def test_dormant_is_strictly_below_the_threshold():
    features = torch.zeros(200, 3)
    features[0, 0] = 1.0  # 0.5%
    features[:2, 1] = 1.0  # exactly 1%
    features[:3, 2] = 1.0
    assert dormant_units(features, 0.01).tolist() == [True, False, False]
    assert dead_units(features).tolist() == [False, False, False]


def test_dead_is_zero_everywhere():
    features = torch.tensor([[0.0, 1e-30], [0.0, 0.0]])
    assert dead_units(features).tolist() == [True, False]


def test_tau_dormant_compares_with_the_layers_mean():
    # Means of |activation|: 0.1, 1, 1.9; their mean is 1.
    features = torch.tensor([[0.2, -1.0, 1.9], [0.0, 1.0, -1.9]])
    assert tau_dormant_units(features, 0.1).tolist() == [True, False, False]
    assert tau_dormant_units(features, 0.09).tolist() == [False, False, False]
    assert tau_dormant_units(features, 1.0).tolist() == [True, True, False]


def test_every_unit_of_a_silent_layer_is_tau_dormant():
    assert tau_dormant_units(torch.zeros(4, 3, 2, 2), 0.0).all()


def test_feature_norm_is_the_mean_over_examples():
    assert feature_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).item() == pytest.approx(3.0)
