"""What `Recorder.minibatch` costs the trainer beside appending the same ten numbers to a ring and to a list.

The numbers stand in local variables, as in a training loop. After each 64 minibatches, an update is recorded, which is
not timed. Rounds are interleaved, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import random
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from bench_rows import Call, Costs, compiled, float32_valued

from esper_recorder import Recorder

NUMBERS = (
    "policy_loss",
    "value_loss",
    "entropy",
    "kl_divergence",
    "clip_fraction",
    "grad_norm",
    "ratio_max",
    "learning_rate",
    "epoch",
    "my_reward_term",
)
ROUNDS = 50
MINIBATCHES_PER_UPDATE = 64
UPDATES_PER_ROUND = 8
RING_LENGTH = 512
KINDS: dict[str, Callable[[float], object]] = {
    "floats": float,
    "numpy.float32": np.float32,
    "CPU tensors": torch.tensor,
}


def minibatches(make: Callable[[float], object]) -> list[Sequence[object]]:
    """The minibatches of one update, ten numbers each."""
    rng = random.Random(0)
    return [[make(float32_valued(rng)) for _ in NUMBERS] for _ in range(MINIBATCHES_PER_UPDATE)]


def main() -> None:
    """Time all kinds of numbers and print the table."""
    kinds = {kind: minibatches(make) for kind, make in KINDS.items()}
    ring: deque[object] = deque(maxlen=RING_LENGTH)
    everything: list[object] = []
    with tempfile.TemporaryDirectory() as place, Recorder.open(Path(place), run_id="minibatches") as recorder:
        append = "append({{{}}})", '"{name}": v[{i}]', NUMBERS
        calls: dict[str, Call] = {
            "minibatch": compiled("minibatch({})", "{name}=v[{i}]", NUMBERS, minibatch=recorder.minibatch),
            "ring": compiled(*append, append=ring.append),
            "list": compiled(*append, append=everything.append),
            "empty": compiled("None", "", ()),
        }
        costs = {kind: {name: Costs() for name in calls} for kind in kinds}
        for update in range(ROUNDS * UPDATES_PER_ROUND):
            for kind, rows in kinds.items():
                for name, call in calls.items():
                    costs[kind][name].add_round(call, rows)
            everything.clear()
            recorder.record(update=update, policy_loss=0.0, value_loss=0.0)
        dropped = recorder.dropped_rows
    print(f"one minibatch of {len(NUMBERS)} numbers: the caller's cost in µs; {dropped} rows dropped")
    print(f"  {'':16}{'minibatch()':>12}{'ring.append':>12}{'list.append':>12}{'× ring':>8}{'p99.9':>9}{'longest':>9}")
    for kind, cost in costs.items():
        ours, in_ring, in_list = cost["minibatch"], cost["ring"], cost["list"]
        print(
            f"  {kind:16}{ours.median:12.2f}{in_ring.median:12.2f}{in_list.median:12.2f}"
            f"{ours.median / in_ring.median:8.2f}{ours.pauses}"
        )
    print(f"  ring: a deque of the last {RING_LENGTH}; × ring, p99.9 and longest are those of minibatch()")
    print(f"  of each, the clock and an empty call take {costs['floats']['empty'].median:.2f} µs")


if __name__ == "__main__":
    main()
