"""Inputs of which not every place is there: recordings, sentences, padded to one length."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
    """Inputs and which of their places are there; it goes wherever an array of inputs goes.

    Args:
      input: `[batch, length, ...]`.
      mask: bool `[batch, length]`.
    """

    input: Any
    mask: Any

    shape = property(lambda self: self.input.shape)
    dtype = property(lambda self: self.input.dtype)
    ndim = property(lambda self: self.input.ndim)

    __iter__ = None  # jax indexes without end

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("inputs with a mask are no array; .input is")

    def __len__(self) -> int:
        return len(self.input)

    def astype(self, dtype: Any) -> "Masked":
        return Masked(self.input.astype(dtype), self.mask)

    def __getitem__(self, rows: Any) -> "Masked":
        return Masked(self.input[rows], self.mask[rows])


def inputs_of(columns: Mapping[str, Any]) -> Any:
    """The inputs among the columns of a table or a batch, with their mask if they have one."""
    mask = columns.get("mask")
    return columns["input"] if mask is None else Masked(columns["input"], mask)


def columns_of(inputs: Any) -> dict[str, Any]:
    """Inputs as columns."""
    return dict(vars(inputs)) if isinstance(inputs, Masked) else {"input": inputs}


def array_of(inputs: Any) -> Any:
    """Inputs without their mask."""
    return inputs.input if isinstance(inputs, Masked) else inputs


def reads_mask(function: Callable) -> bool:
    """Whether a function has a parameter `mask`."""
    return "mask" in inspect.signature(function).parameters


def call(reads: bool, function: Callable, inputs: Any, *args: Any, **fields: Any) -> Any:
    """A function of inputs: one that `reads` masks is given theirs, or None, by keyword."""
    if reads:
        mask = inputs.mask if isinstance(inputs, Masked) else None
        return function(array_of(inputs), *args, mask=mask, **fields)
    return function(array_of(inputs), *args, **fields)


def passed(reads: bool, function: Callable, inputs: Any, *args: Any, **fields: Any) -> Any:
    """As `call`, of a function whose outcome are inputs: (array, mask), if it `reads` masks; the
    mask of one that does not stays."""
    outcome = call(reads, function, inputs, *args, **fields)
    if reads:
        array, mask = outcome
        return array if mask is None else Masked(array, mask)
    return Masked(outcome, inputs.mask) if isinstance(inputs, Masked) else outcome
