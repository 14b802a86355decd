"""The numbers of each minibatch of a PPO of Stable-Baselines3 or sb3-contrib, without a change to its training.

SB3 has no hook inside `PPO.train`. But that method asks the rollout buffer for one minibatch after the other, and keeps
what it computes in local variables. So `Minibatches` stands between the two: each time the next minibatch is asked for,
it reads what `train` has computed for the one before. It computes two numbers of its own, the largest ratio and the
norm of the gradient before clipping, and changes none; no random number is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from stable_baselines3 import PPO
from torch import Tensor

from esper_recorder.adapters.replacement import Replacement

_LISTS = {"policy_loss": "pg_losses", "clip_fraction": "clip_fractions", "kl_divergence": "approx_kl_divs"}
"""Metric → list in `PPO.train` to which each minibatch appends the number."""


class Minibatches:
    """Watches the minibatches of one model until `close` is called.

    Args:
        model: the PPO.
        value_loss_factor: what SB3's value loss is multiplied by.
        take: called with the numbers of each minibatch by keyword; raises nothing.
    """

    def __init__(self, model: PPO, value_loss_factor: float, take: Callable[..., None]) -> None:
        self._factor = value_loss_factor
        self._take = take
        self._grad_norm: Tensor | None = None
        parameters = [parameter for parameter in model.policy.parameters() if parameter.requires_grad]
        self._hook = torch.autograd.graph.register_multi_grad_hook(parameters, self._note_gradients)
        self._seen: tuple[object, int] = (None, 0)  # the list of value losses, and how long it was at the last look
        self._get = Replacement(model.rollout_buffer, "get", self._watched)

    def close(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()
        self._get.undo()

    def _note_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        """Called in the backward pass, with the gradients as they are before SB3 clips them."""
        found = [gradient.detach() for gradient in gradients if gradient is not None]
        self._grad_norm = torch.nn.utils.get_total_norm(found) if found else None

    def _watched(self, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        """The minibatches of one epoch, as the buffer gives them."""
        is_out = False
        try:
            for minibatch in self._get.original(*arguments, **keywords):
                if is_out:
                    self._read()
                is_out = True
                yield minibatch
        finally:
            if is_out:  # the last one of the epoch, or the one at which `target_kl` ended it
                self._read()

    def _read(self) -> None:
        """Hand over what `train`, which asks for the next minibatch, has computed for the last one."""
        grad_norm, self._grad_norm = self._grad_norm, None
        try:
            computed = sys._getframe(2).f_locals
        except ValueError:  # the iterator is thrown away at the end of the program
            return
        losses = computed.get("value_losses")
        if not isinstance(losses, list) or (self._seen[0] is losses and self._seen[1] == len(losses)):
            return  # not SB3's own `train`, or an exception came before the loss
        self._seen = (losses, len(losses))
        epoch, ratio = computed.get("epoch"), computed.get("ratio")
        numbers: dict[str, Any] = {"epoch": epoch + 1 if isinstance(epoch, int) else None}
        numbers |= {name: _last(computed, there) for name, there in _LISTS.items()}
        entropy_loss = _last(computed, "entropy_losses")
        numbers["value_loss"] = self._factor * losses[-1] if losses else None
        numbers["entropy"] = None if entropy_loss is None else -entropy_loss
        numbers["grad_norm"] = grad_norm
        if isinstance(ratio, Tensor) and ratio.numel():
            numbers["ratio_max"] = _without_padding(ratio.detach(), computed.get("mask")).max()
        self._take(**numbers)


def _without_padding(ratio: Tensor, mask: object) -> Tensor:
    """The ratios of samples. `RecurrentPPO.train` pads the sequences of a minibatch, and has a mask of the samples."""
    if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == ratio.shape:
        return torch.where(mask, ratio, -torch.inf)
    return ratio


def _last(computed: Mapping[str, Any], name: str) -> Any:
    """The last entry of a list among the local variables of `train`; None if a subclass has no such list."""
    found = computed.get(name)
    return found[-1] if isinstance(found, list) and found else None
