"""The numbers of each minibatch of a PPO of rsl_rl, and what follows from them for the update.

rsl_rl has no hook inside `PPO.update`. But that method asks its storage for one minibatch after the other, and keeps
what it computes in local variables. So `Minibatches` stands between the two, as that of the Stable-Baselines3 adapter:
each time the next minibatch is asked for, it reads what `update` has computed for the one before. It changes no number,
draws no random one, and never waits for the device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from torch import Tensor

from esper_recorder.adapters.replacement import Replacement
from esper_recorder.train.losses import clip_fractions, kl_k3
from esper_recorder.writing import log

_GENERATORS = ("mini_batch_generator", "recurrent_mini_batch_generator")

_OTHER_LOSSES = ("rnd_loss", "symmetry_loss")
"""Local variables of `update` that are losses too, where they are not None."""


class Minibatches:
    """Watches the minibatches of one algorithm until `close` is called.

    Args:
        alg: the PPO.
        value_loss_factor: what rsl_rl's value loss is multiplied by.
        take: called with the numbers of each minibatch by keyword.
        strict: whether what cannot be measured raises instead of being logged, once.
    """

    def __init__(self, alg: PPO, value_loss_factor: float, take: Callable[..., None], *, strict: bool) -> None:
        self._alg = alg
        self._is_strict, self._has_warned = strict, False
        self._factor = value_loss_factor
        self._take = take
        self._replaced = [
            Replacement(alg.storage, name, self._watch(getattr(alg.storage, name))) for name in _GENERATORS
        ]
        self._parts = {"actor": _trained(alg.actor), "critic": _trained(alg.critic)}
        every = list({id(each): each for part in self._parts.values() for each in part}.values())
        self._every = every
        self._hook = torch.autograd.graph.register_multi_grad_hook(every, self._note_gradients)
        self._norms: dict[str, Tensor] = {}
        self._seen: object = None  # the value loss at the last look
        self._measured: list[dict[str, Tensor]] = []  # of this update, one for each minibatch

    def close(self) -> None:
        """Leave the algorithm as it was."""
        self._hook.remove()
        for replaced in self._replaced:
            replaced.undo()

    def results(self) -> dict[str, Tensor]:
        """Return the metrics of the update that has ended, as 0-d float64 tensors, and begin anew.

        Each is taken over all minibatches, from the ratios and errors that `update` has computed. Without a minibatch
        there is no metric.
        """
        measured, self._measured = self._measured, []
        if not measured:
            return {}
        names = [name for name in measured[0] if all(name in of_minibatch for of_minibatch in measured)]
        stacked = {name: torch.stack([of_minibatch[name].double() for of_minibatch in measured]) for name in names}
        minima, maxima = stacked.pop("ratio_min", None), stacked.pop("ratio_max", None)
        found = {name: column.mean() for name, column in stacked.items()}
        if minima is None or maxima is None:
            return found
        deviation, square = found.pop("ratio_deviation"), found.pop("ratio_deviation_square")
        return found | {
            "clip_fraction": found["clip_fraction_positive"] + found["clip_fraction_negative"],
            "ratio_mean": 1.0 + deviation,
            "ratio_std": (square - deviation**2).clamp(min=0.0).sqrt(),
            "ratio_min": minima.amin(),
            "ratio_max": maxima.amax(),
        }

    def _note_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Called in the backward pass, with the gradients as they are before rsl_rl clips them."""
        found = {
            id(each): gradient.detach()
            for each, gradient in zip(self._every, gradients, strict=True)
            if gradient is not None
        }
        self._norms = {
            f"{name}_grad_norm": torch.nn.utils.get_total_norm([found[id(each)] for each in part if id(each) in found])
            for name, part in self._parts.items()
        }
        self._norms["grad_norm"] = torch.nn.utils.get_total_norm(list(found.values()))

    def _watch(self, original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def watched(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            self._measured = []
            is_out = False
            try:
                for minibatch in original(*arguments, **keywords):
                    if is_out:
                        self._read()
                    is_out = True
                    yield minibatch
            finally:
                if is_out:  # the last one
                    self._read()

        return watched

    def _read(self) -> None:
        """Hand over what `update`, which asks for the next minibatch, has computed for the last one."""
        norms, self._norms = self._norms, {}
        try:
            computed = sys._getframe(2).f_locals
        except ValueError:  # the iterator is thrown away at the end of the program
            return
        try:
            self._measure(computed, norms)
        except Exception as error:  # of an `update` or a device of another kind: no reason to end the training
            if self._is_strict:
                raise
            if not self._has_warned:
                log.warning("no numbers of minibatches: %s: %s", type(error).__name__, error)
            self._has_warned = True

    def _measure(self, computed: Mapping[str, Any], norms: Mapping[str, Tensor]) -> None:
        losses = {name: _mean(computed.get(name)) for name in ("value_loss", "surrogate_loss", *_OTHER_LOSSES)}
        value_loss = losses.pop("value_loss")
        if value_loss is None or computed["value_loss"] is self._seen:
            return  # not rsl_rl's own `update`, or an exception came before the loss
        self._seen = computed["value_loss"]
        measured = self._of_ratio(computed.get("ratio")) | {"pre_clip_grad_norm": norms["grad_norm"]} if norms else {}
        unclipped = _mean(computed.get("value_losses"))
        if unclipped is not None:
            measured["value_loss_unclipped"] = self._factor * unclipped
        self._measured.append(measured)
        numbers = {
            "epoch": 1 + (len(self._measured) - 1) // self._alg.num_mini_batches,
            "value_loss": self._factor * value_loss,
            "policy_loss": losses.pop("surrogate_loss"),
            "entropy": _mean(computed.get("entropy")),
            "kl_divergence": measured.get("kl_divergence"),
            "clip_fraction": None,
            "ratio_max": measured.get("ratio_max"),
            "learning_rate": self._alg.learning_rate,
            **losses,
            **norms,
        }
        if "clip_fraction_positive" in measured:
            numbers["clip_fraction"] = measured["clip_fraction_positive"] + measured["clip_fraction_negative"]
        self._take(**{name: number for name, number in numbers.items() if number is not None})

    def _of_ratio(self, ratio: object) -> dict[str, Tensor]:
        """Measure the importance ratios of a minibatch, of any shape; they have no padding."""
        if not isinstance(ratio, Tensor) or not ratio.numel():
            return {}
        exact = ratio.detach().double()
        deviation, log_ratio = exact - 1.0, exact.log()
        above, below = clip_fractions(log_ratio, self._alg.clip_param)
        return {
            "kl_divergence": kl_k3(log_ratio).mean(),
            "clip_fraction_positive": above.mean(),
            "clip_fraction_negative": below.mean(),
            "ratio_deviation": deviation.mean(),
            "ratio_deviation_square": (deviation**2).mean(),
            "ratio_min": exact.amin(),
            "ratio_max": exact.amax(),
        }


def _trained(model: torch.nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _mean(computed: object) -> Tensor | None:
    """The mean of a local variable of `update`; None if it has no such tensor."""
    return computed.detach().mean() if isinstance(computed, Tensor) else None
