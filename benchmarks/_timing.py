"""Timing helpers shared by the benchmark scripts: interleaved rounds, medians of ratios, printed tables."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def synchronize(device: torch.device | str = "cpu") -> None:
    """Wait for the queued work of a GPU; nothing to do on the CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def interleaved_times(
    cases: dict[str, Callable[[], object]],
    *,
    rounds: int = 7,
    repeats: int = 1,
    warmup: int = 1,
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of every case, one value per round.

    clock: `time.process_time` counts what this process computes, which others on the machine disturb less.

    Each round times every case once (`repeats` calls in a row), so that slow drifts of the machine hit all cases
    alike; `warmup` untimed rounds come first.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warmup + rounds):
        for name, call in cases.items():
            synchronize(device)
            start = clock()
            for _ in range(repeats):
                call()
            synchronize(device)
            if turn >= warmup:
                times[name].append((clock() - start) / repeats)
    return times


def median_ratio(times: dict[str, list[float]], case: str, baseline: str) -> float:
    """Median over the rounds of time(case) / time(baseline)."""
    return statistics.median(a / b for a, b in zip(times[case], times[baseline], strict=True))


def median_ms(times: dict[str, list[float]], case: str) -> float:
    return 1e3 * statistics.median(times[case])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain aligned table; floats with three significant digits."""

    def text(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    cells = [list(header), *[[text(value) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for number, row in enumerate(cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
