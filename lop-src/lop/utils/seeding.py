"""Generators seeded from (seed, purpose). The global random state is neither used nor changed."""

import hashlib

import torch


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose of one run, e.g. `derive_seed(3, "task", 17)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, *purpose: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for one purpose of one run."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *purpose))
