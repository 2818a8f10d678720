"""The selective state-space recurrence of Mamba, with a cost linear in the number of tokens."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["selective_scan"]

SLAB_VALUES = 2**17
"""Values of the states that are held at once: few enough to stay in a processor's cache."""


def selective_scan(
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run h[t] = exp(steps[t] decay) h[t-1] + steps[t] inputs[t] write[t], y[t] = read[t] h[t].

    The recurrence of Mamba (Gu and Dao, arXiv 2312.00752, eq. 2a with the discretisation of
    section 3.2). Each of the D channels has S states of its own. The gradient is computed by
    running the recurrence again, slab by slab, so that memory holds one state per slab and not
    one per token.

    Args:
        inputs: (B, L, D) float.
        steps: (B, L, D), not negative.
        decay: (S, D), negative.
        write: (B, L, S).
        read: (B, L, S).
        state: (B, S, D) before the first token; zeros where None.

    Returns:
        Outputs (B, L, D) and the state (B, S, D) after the last token.
    """
    if state is None:
        state = inputs.new_zeros(len(inputs), *decay.shape)
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    arguments = [value.to(dtype) for value in (inputs, steps, decay, write, read, state)]
    with torch.autocast(inputs.device.type, enabled=False):
        outputs, last = cast("tuple[Tensor, Tensor]", _Scan.apply(*arguments))
    return outputs.to(inputs.dtype), last


class _Scan(torch.autograd.Function):
    # Inside, time comes first, so that the states of one token lie together.

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        steps: Tensor,
        decay: Tensor,
        write: Tensor,
        read: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        along = [value.transpose(0, 1).contiguous() for value in (inputs, steps, write, read)]
        signal, step, writing, reading = along
        length = _slab_length(state)
        starts, parts = [], []
        # Fresh memory for every slab would cost more than the arithmetic.
        held = signal.new_empty(2, length, *state.shape)
        for begin in range(0, len(signal), length):
            slab = slice(begin, begin + length)
            starts.append(state)
            _, states = _run(signal[slab], step[slab], decay, writing[slab], state, held)
            parts.append((reading[slab].unsqueeze(2) @ states).squeeze(2))
            state = states[-1].clone()
        outputs = torch.cat(parts) if parts else signal
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*along, decay, torch.stack(starts or [state]))
        return outputs.transpose(0, 1), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        signal, step, writing, reading, decay, starts = ctx.saved_tensors
        grad_outputs = grads[0].transpose(0, 1).contiguous()
        carry = grads[1].contiguous()
        length = _slab_length(starts[0])
        found = [torch.empty_like(value) for value in (signal, step, writing, reading)]
        grad_decay = torch.zeros_like(decay)
        held = signal.new_empty(2, length, *carry.shape)
        for index in reversed(range(-(-len(signal) // length))):
            slab = slice(index * length, (index + 1) * length)
            before = starts[index]
            fading, states = _run(signal[slab], step[slab], decay, writing[slab], before, held)
            grad = grad_outputs[slab]
            # What each state means to the loss, later tokens included.
            means = reading[slab].unsqueeze(3) * grad.unsqueeze(2)
            means[-1] += carry
            fades, later = fading.unbind(), means.unbind()
            for t in range(len(later) - 2, -1, -1):
                later[t].addcmul_(fades[t + 1], later[t + 1])
            carry = fading[0] * means[0]

            driven = signal[slab] * step[slab]
            grad_driven = (writing[slab].unsqueeze(2) @ means).squeeze(2)
            grad_write = (means @ driven.unsqueeze(3)).squeeze(3)
            grad_read = (states @ grad.unsqueeze(3)).squeeze(3)
            # d loss / d (steps * decay): the fading times the state before times its meaning.
            means *= fading
            means[0] *= before
            means[1:] *= states[:-1]
            grad_step = (means * decay).sum(dim=2) + grad_driven * signal[slab]
            grad_decay += (means * step[slab].unsqueeze(2)).sum(dim=(0, 1))
            for whole, part in zip(
                found, (grad_driven * step[slab], grad_step, grad_write, grad_read), strict=True
            ):
                whole[slab] = part
        grad_signal, grad_steps, grad_writing, grad_reading = (
            value.transpose(0, 1) for value in found
        )
        return grad_signal, grad_steps, grad_decay, grad_writing, grad_reading, carry


def _slab_length(state: Tensor) -> int:
    return max(SLAB_VALUES // max(state.numel(), 1), 1)


def _run(
    signal: Tensor, step: Tensor, decay: Tensor, writing: Tensor, state: Tensor, held: Tensor
) -> tuple[Tensor, Tensor]:
    """Fading factors and states (T, B, S, D) of the tokens of one slab, laid into `held`."""
    fading, states = held[:, : len(signal)]
    torch.mul(step.unsqueeze(2), decay, out=fading).exp_()
    torch.mul(writing.unsqueeze(3), (signal * step).unsqueeze(2), out=states)
    before = state
    for fade, now in zip(fading.unbind(), states.unbind(), strict=True):
        now.addcmul_(fade, before)
        before = now
    return fading, states
