"""The kernel of full tuning for models whose gradients are too large to hold: two-sided random sketches of them."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from loraudit.capture.directions import draw_directions
from loraudit.capture.factors import Held, Outer
from loraudit.capture.functionals import Functional
from loraudit.capture.grams import Gram, held_gram, outer_grams
from loraudit.capture.parameters import Convert, Counted, counted_parameters
from loraudit.capture.passes import Passes, plan_chunks
from loraudit.capture.sums import MEMORY_BYTES
from loraudit.errors import ConfigError
from loraudit.execution import Progress, Silent, StopRequest
from loraudit.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class SketchedKernel:
    """The kernel of full tuning, estimated.

    Attributes:
        values: [m] f at the base, in logits.
        kernel: [m, m] mean over independent sketches; unbiased.
        relative_error: Its standard error over the sketches, relative to it, both in Frobenius norm; NaN for one.
        n_sketches: Independent sketches.
        n_sketched: Parameters whose gradients were sketched; those of all others are exact.
    """

    values: FloatArray
    kernel: FloatArray
    relative_error: float
    n_sketches: int
    n_sketched: int


def sketched_kernel(
    module: Any,
    rows: Seq[IntArray],
    functional: Functional,
    *,
    device: str,
    sketch_dimensions: int,
    sketches: int = 4,
    seed: int = 0,
    batch_size: int = 8,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> SketchedKernel:
    """Full tuning's kernel from U G V in place of G, for fixed U [d, k] and V [n, d] of independent normal numbers.

    With variance 1 / d on both sides inner products are kept in expectation. Biases, norms, embeddings, weights shared
    with an embedding and maps smaller than their sketch stay exact.

    Args:
        module: As for `kernel_parts`, like all the rest.
        rows: Probe records.
        functional: f.
        device: Where the module is.
        sketch_dimensions: d.
        sketches: Independent ones, of which the mean is taken and whose spread gives the error.
        seed: Of all directions.
        batch_size: Records in one pass.
        memory_bytes: For what is held and multiplied; directions come on top, sketches · d · (n + k) for each map.
        progress: Told of the stage and tokens done.
        stop: Asked between batches.

    Raises:
        ConfigError: A number is below 1, or the memory allowed does not hold two records.
        DataError: A record is empty.
        ModelError: As `kernel_parts`.
        EnvironmentFault: A single record does not fit into memory.
        Interrupted: A stop was asked for.

    References:
        Woodruff 2014, arXiv:1411.4357.
    """
    if sketch_dimensions < 1 or sketches < 1:
        raise ConfigError(
            f"{sketches} sketches of {sketch_dimensions} dimensions are none. Expected at least 1 of each. Give other "
            "numbers."
        )
    counted = [_sketch(one, sketch_dimensions, sketches, seed, device) for one in counted_parameters(module)]
    passes = Passes(module, rows, functional, device, batch_size, progress or Silent(), stop)
    total = np.zeros((sketches, len(rows), len(rows)))
    with passes.meetings(plan_chunks(counted, [len(row) for row in rows], memory_bytes=memory_bytes)) as meetings:
        for meeting in meetings:
            for one, held, other in zip(meeting.parameters, meeting.held, meeting.others, strict=True):
                found = _grams(one, held, other, sketches, memory_bytes // 2)
                total[:, meeting.rows, meeting.columns] += found
                if held is not other:
                    total[:, meeting.columns, meeting.rows] += np.swapaxes(found, 1, 2)
    kernel = total.mean(axis=0)
    length = float(np.linalg.norm(kernel))
    spread = math.nan if sketches == 1 else math.sqrt(float(total.var(axis=0, ddof=1).sum()) / sketches)
    error = spread / length if length else math.nan
    n_sketched = sum(one.exact is not None for one in counted)
    return SketchedKernel(passes.values, (kernel + kernel.T) / 2, error, sketches, n_sketched)


def _sketch(one: Counted, n_dimensions: int, sketches: int, seed: int, device: str) -> Counted:
    """The parameter, sketched where that makes its gradient smaller."""
    k, n = one.uses[0].widths
    if one.part != "weights" or sketches * n_dimensions**2 >= k * n:
        return one
    sides = [
        torch.from_numpy(
            draw_directions("gaussian", rank=sketches * n_dimensions, width=width, name=one.name, draw=draw, seed=seed)
        ).to(device)
        * math.sqrt(width / n_dimensions)
        for draw, width in enumerate((k, n))
    ]
    widths = (sketches * n_dimensions, sketches * n_dimensions)
    convert = _projection(*sides)
    return replace(one, uses=tuple(use._replace(widths=widths, convert=convert) for use in one.uses), exact=one)


def _projection(left: torch.Tensor, right: torch.Tensor) -> Convert:
    def convert(entered: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradient @ left.T, entered @ right.T

    return convert


def _grams(one: Counted, x: Held, y: Held, sketches: int, workspace: int) -> Gram:
    """[sketches, b, c]; the same in all where nothing is sketched."""
    if one.exact is None or x.outer is None or y.outer is None:
        return np.broadcast_to(held_gram(x, y, workspace=workspace), (sketches, x.n_records, y.n_records))
    found: list[Gram] = []
    for place in range(sketches):
        ours = _share(x.outer, place, sketches)
        theirs = ours if y is x else _share(y.outer, place, sketches)
        found += outer_grams(ours, theirs, workspace=workspace)
    return np.stack(found)


def _share(outer: Outer, place: int, sketches: int) -> Outer:
    """One of the sketches that stand beside each other."""
    left, right = (side.tensor_split(sketches, dim=1)[place] for side in (outer.left, outer.right))
    return replace(outer, left=left, right=right)
