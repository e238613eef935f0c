"""Inner products of single records' gradients, from their factors.

With G_i = Σ_t g_t a_tᵀ the inner product ⟨G_i, G_j⟩ = Σ_{t,u} ⟨g_t, g_u⟩⟨a_t, a_u⟩ needs no G; where G is small beside
the square of the positions it is cheaper to form it, some of its rows at a time. Which way is taken goes by the number
of products; both are exact. Products are made in float32 and summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import torch
from numpy.typing import NDArray

from loraudit.capture.factors import Held, Lookup, Outer

Gram = NDArray[np.float64]
_COLUMNS_AT_ONCE = 1 << 15
"""Products that float32 sums before float64 takes over."""
_FORMED_BYTES = 1 << 25
"""Of formed gradients at a time: larger pieces are slower, as memory is asked of the system anew for each."""


def held_gram(x: Held, y: Held, *, workspace: int) -> Gram:
    """[b, c] inner products of one parameter's gradients, cross terms of its several uses included.

    Args:
        x: Of b records.
        y: Of c records.
        workspace: Bytes that may be held besides.
    """
    if x.vectors is not None and y.vectors is not None:
        return _product(x.vectors, y.vectors)
    total = np.zeros((x.n_records, y.n_records))
    if x.outer and y.outer:
        total += outer_grams(x.outer, y.outer, workspace=workspace)[0]
    if x.lookup and y.lookup:
        total += _lookup_gram(x.lookup, y.lookup, is_signed=False)
    if x.lookup and y.outer:
        total += _cross_gram(x.lookup, y.outer, workspace)
    if x.outer and y.lookup:
        total += _cross_gram(y.lookup, x.outer, workspace).T
    return total


def signed_gram(x: Held, y: Held, *, workspace: int) -> Gram:
    """[b, c] inner products ⟨G_i, sign(G_j)⟩ of one parameter's gradients.

    Args:
        x: Of b records.
        y: Of c records, whose sign is taken.
        workspace: Bytes that may be held besides.
    """
    if x.vectors is not None and y.vectors is not None:
        return _product(x.vectors, y.vectors.sign())
    if x.outer is None and y.outer is None and x.lookup and y.lookup:
        return _lookup_gram(x.lookup, y.lookup, is_signed=True)
    total = np.zeros((x.n_records, y.n_records))
    widths = {side.outer.left.shape[1]: side.outer.right.shape[1] for side in (x, y) if side.outer}
    for n_rows, width in widths.items():
        at_once = max(1, workspace // (8 * width * sum(total.shape)))
        for low in range(0, n_rows, at_once):
            high = min(n_rows, low + at_once)
            total += _product(_rows_of(x, low, high, width), _rows_of(y, low, high, width).sign())
    return total


def outer_grams(
    x: Outer, y: Outer, *, workspace: int, bounds: Seq[int] | None = None, is_signed: bool = False
) -> list[Gram]:
    """[b, c] inner products, a matrix for each group of columns of the right factor.

    Args:
        x: Of b records.
        y: Of c records; the same object where they are the same.
        workspace: Bytes that may be held besides.
        bounds: Where each group of columns ends, ascending; None makes one group of all.
        is_signed: Whether the sign of y's gradients is taken.
    """
    width, k = x.right.shape[1], x.left.shape[1]
    ends = [width] if bounds is None else list(bounds)
    groups = list(zip([0, *ends[:-1]], ends, strict=True))
    n_pairs, n_positions = x.n_records * y.n_records, len(x.left) + len(y.left)
    by_token = len(x.left) * len(y.left) * (k + width + 2 * len(groups))
    formed = (n_pairs + n_positions) * k * width
    if is_signed or formed <= by_token:
        return _formed_grams(x, y, groups, workspace, is_signed=is_signed)
    return _token_grams(x, y, groups, workspace)


def _formed_grams(x: Outer, y: Outer, groups: Seq[tuple[int, int]], workspace: int, *, is_signed: bool) -> list[Gram]:
    width, k = x.right.shape[1], x.left.shape[1]
    n_formed = x.n_records + (0 if y is x and not is_signed else y.n_records)
    # Once as they are formed and once more as the columns of a group.
    at_once = max(1, min(workspace, _FORMED_BYTES) // (8 * width * n_formed))
    totals = [np.zeros((x.n_records, y.n_records)) for _ in groups]
    for low in range(0, k, at_once):
        ours = _formed(x, low, min(k, low + at_once))
        theirs = ours if y is x else _formed(y, low, min(k, low + at_once))
        for place, (first, end) in enumerate(groups):
            left = ours[:, :, first:end].flatten(1)
            right = left if theirs is ours else theirs[:, :, first:end].flatten(1)
            totals[place] += _product(left, right.sign() if is_signed else right)
    return totals


def _formed(x: Outer, low: int, high: int) -> torch.Tensor:
    """[b, high - low, n] rows of each record's Σ_t left_t right_tᵀ."""
    counts = torch.bincount(x.owners, minlength=x.n_records).tolist()
    if len(set(counts)) == 1 and counts[0]:
        shape = (x.n_records, counts[0])
        return x.left[:, low:high].unflatten(0, shape).transpose(1, 2) @ x.right.unflatten(0, shape)
    found = torch.zeros(x.n_records, high - low, x.right.shape[1], device=x.left.device)
    for own, left, right in zip(found, x.left[:, low:high].split(counts), x.right.split(counts), strict=True):
        torch.mm(left.T, right, out=own)
    return found


def _rows_of(held: Held, low: int, high: int, width: int) -> torch.Tensor:
    """[b, (high - low) · width] some rows of all of a parameter's gradient."""
    found = torch.zeros(held.n_records, high - low, width)
    if held.outer:
        found = _formed(held.outer, low, high)
    if held.lookup:
        ids, values, owners = held.lookup.ids, held.lookup.values, held.lookup.owners
        first, end = torch.searchsorted(ids, torch.tensor([low, high], device=ids.device)).tolist()
        found = found.to(values.device)
        found[owners[first:end], ids[first:end] - low] += values[first:end]
    return found.flatten(1)


def _token_grams(x: Outer, y: Outer, groups: Seq[tuple[int, int]], workspace: int) -> list[Gram]:
    totals = [np.zeros((x.n_records, y.n_records)) for _ in groups]
    at_once = max(1, workspace // (32 * max(1, len(y.left))))  # two products, and one of them in float64
    for low in range(0, len(x.left), at_once):
        rows = slice(low, low + at_once)
        backward = x.left[rows] @ y.left.T
        for place, (first, end) in enumerate(groups):
            forward = x.right[rows, first:end] @ y.right[:, first:end].T
            totals[place] += _by_record(forward * backward, x.owners[rows], y.owners, totals[place].shape)
    return totals


def _lookup_gram(x: Lookup, y: Lookup, *, is_signed: bool) -> Gram:
    """Over the rows of the table that records on both sides looked up."""
    total = torch.zeros(x.n_records, y.n_records, dtype=torch.float64, device=_wide(x.values[:0]).device)
    starts = [{int(row): places for row, places in _runs(side.ids)} for side in (x, y)]
    for row, (first, end) in starts[0].items():
        if row in starts[1]:
            begin, stop = starts[1][row]
            theirs = y.values[begin:stop]
            inner = x.values[first:end] @ (theirs.sign() if is_signed else theirs).T
            owners = x.owners[first:end].to(total.device), y.owners[begin:stop].to(total.device)
            total[owners[0][:, None], owners[1][None]] += _wide(inner)
    return total.cpu().numpy()


def _runs(ids: torch.Tensor) -> list[tuple[int, tuple[int, int]]]:
    rows, counts = torch.unique_consecutive(ids, return_counts=True)
    ends = torch.cumsum(counts, 0).tolist()
    return list(zip(rows.tolist(), zip([0, *ends[:-1]], ends, strict=True), strict=True)) if ends else []


def _cross_gram(x: Lookup, y: Outer, workspace: int) -> Gram:
    """Of a table's rows and of outer products in the same table: Σ ⟨value, right⟩ · left at the row."""
    total = np.zeros((x.n_records, y.n_records))
    at_once = max(1, workspace // (32 * max(1, len(y.left))))
    for low in range(0, len(x.ids), at_once):
        rows = slice(low, low + at_once)
        products = (x.values[rows] @ y.right.T) * y.left[:, x.ids[rows]].T
        total += _by_record(products, x.owners[rows], y.owners, total.shape)
    return total


def _by_record(products: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor, shape: tuple[int, ...]) -> Gram:
    """[b, c] sums of [N, M] over the positions of each pair of records."""
    wide = _wide(products)
    rows = torch.zeros(shape[0], wide.shape[1], dtype=wide.dtype, device=wide.device)
    rows.index_add_(0, ours.to(wide.device), wide)
    pairs = torch.zeros(shape[1], shape[0], dtype=wide.dtype, device=wide.device)
    return pairs.index_add_(0, theirs.to(wide.device), rows.T.contiguous()).T.cpu().numpy()


def _product(x: torch.Tensor, y: torch.Tensor) -> Gram:
    """[b, c] of [b, D] and [c, D]; of the same object only one half is computed."""
    total = torch.zeros(len(x), len(y), dtype=torch.float64)
    n_rows = max(16, -(-len(x) // 8)) if y is x else len(x)
    for ours, theirs in zip(x.split(_COLUMNS_AT_ONCE, dim=1), y.split(_COLUMNS_AT_ONCE, dim=1), strict=True):
        for low in range(0, len(x), n_rows):
            first = low if y is x else 0
            total[low : low + n_rows, first:] += _wide(ours[low : low + n_rows] @ theirs[first:].T).cpu()
    return (total.triu() + total.triu(1).T if y is x else total).numpy()


def _wide(x: torch.Tensor) -> torch.Tensor:
    """In float64, which Apple's devices lack."""
    return (x.cpu() if x.device.type == "mps" else x).double()
