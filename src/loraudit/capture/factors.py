"""What a pass leaves of each record's gradient: factors of outer products, rows of tables, plain vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from loraudit.capture.parameters import Counted, Use
from loraudit.errors import ModelError
from loraudit.types import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Outer:
    """Gradients Σ_t left_t right_tᵀ, the records' positions one after another.

    Attributes:
        left: [N, k].
        right: [N, n].
        owners: [N] record of each position, ascending.
        n_records: b.
    """

    left: torch.Tensor
    right: torch.Tensor
    owners: torch.Tensor
    n_records: int


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Gradients in the rows of a table that a record looked up; all others are zero.

    Attributes:
        ids: [N] row of the table, ascending.
        values: [N, d] the gradient in it.
        owners: [N] record; no pair of row and record stands twice.
        n_records: b.
    """

    ids: torch.Tensor
    values: torch.Tensor
    owners: torch.Tensor
    n_records: int


@dataclass(slots=True, eq=False)
class Held:
    """All of one parameter's gradients, which are the sum of what is there; zero where nothing is.

    Attributes:
        n_records: b.
        outer: From linear maps.
        lookup: From embeddings.
        vectors: [b, d] from norms and biases.
    """

    n_records: int
    outer: Outer | None = None
    lookup: Lookup | None = None
    vectors: torch.Tensor | None = None


class LayerCall(NamedTuple):
    """One call of a layer.

    Attributes:
        module: The layer.
        entered: [B, …, n] what went in; the normalised input of a norm; ids of an embedding.
        output: [B, …, k] what came out, part of the graph.
    """

    module: Any
    entered: torch.Tensor
    output: torch.Tensor


class Recording:
    """Calls of layers in the latest pass of a model.

    Attributes:
        calls: In their order.
        n_rows: Records of the pass.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.calls: list[LayerCall] = []
        self.n_rows = self.n_tokens = 0
        self._names = names
        self._is_recomputing = False

    def begin(self, _module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        """Forget the pass before, which may have failed."""
        self.calls.clear()
        self.n_rows, self.n_tokens = inputs["input_ids"].shape

    def keep(self, module: Any, args: tuple[Any, ...], inputs: dict[str, Any], output: torch.Tensor) -> Any:
        """Keep a call; what is returned goes on in its place."""
        if self._is_recomputing:
            return None
        entered = args[0] if args else next(iter(inputs.values()))
        output = output if output.requires_grad else output.detach().requires_grad_(True)
        is_table = isinstance(module, torch.nn.Embedding)
        if is_table:
            # Positions are looked up once for the whole batch; each record needs a gradient of its own.
            entered = entered[None] if entered.ndim < 2 else entered
            entered = entered.expand(self.n_rows, *entered.shape[1:]) if len(entered) == 1 else entered
        elif entered.shape[0] == self.n_rows * self.n_tokens and entered.ndim == 2:
            entered = entered.unflatten(0, (self.n_rows, self.n_tokens))
        if entered.shape[0] != self.n_rows:
            raise ModelError(
                f"Layer '{self._names[id(module)]}' sees {len(entered)} rows for {self.n_rows} records, so their "
                "gradients are not apart. Expected one row per record. Use another base."
            )
        if is_table:
            output = output.expand(*entered.shape, output.shape[-1])
        elif type(module).__name__.endswith("Norm"):
            entered = self._normalised(module, entered)
        self.calls.append(LayerCall(module, entered.detach(), output))
        return output.clone()  # what goes on may be changed in place

    def _normalised(self, module: Any, entered: torch.Tensor) -> torch.Tensor:
        """What a norm multiplies by its weight: the difference that a weight of one makes."""
        self._is_recomputing = True
        try:
            with torch.no_grad():
                own = dict(module.named_parameters())
                at_zero = {name: torch.zeros_like(one) for name, one in own.items()}
                at_one = {**at_zero, "weight": torch.ones_like(own["weight"])}
                with_one, with_zero = (
                    torch.func.functional_call(module, values, (entered,)) for values in (at_one, at_zero)
                )
                return with_one.float() - with_zero.float()
        finally:
            self._is_recomputing = False


@contextlib.contextmanager
def recording(model: Any, parameters: Iterable[Counted]) -> Iterator[Recording]:
    """Within the context, every pass of `model` records the calls of the layers that use `parameters`."""
    layers = {id(use.module): use for one in parameters for use in one.uses}
    kept = Recording({key: use.layer for key, use in layers.items()})
    with contextlib.ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(kept.begin, with_kwargs=True).remove)
        for use in layers.values():
            stack.callback(use.module.register_forward_hook(kept.keep, with_kwargs=True).remove)
        yield kept


class Store:
    """Gathers the gradients of some records, batch by batch.

    Args:
        parameters: To be gathered.
        n_records: b.
    """

    def __init__(self, parameters: Seq[Counted], n_records: int) -> None:
        self._parameters = parameters
        self._n_records = n_records
        self._outers: dict[int, list[tuple[torch.Tensor, ...]]] = {}
        self._lookups: dict[int, list[tuple[torch.Tensor, ...]]] = {}
        self._vectors: dict[int, torch.Tensor] = {}
        self._by_module: dict[int, list[tuple[int, Use]]] = {}
        for place, one in enumerate(parameters):
            for use in one.uses:
                self._by_module.setdefault(id(use.module), []).append((place, use))

    def add(
        self, calls: Seq[LayerCall], gradients: Seq[torch.Tensor | None], members: Seq[int], lengths: IntArray
    ) -> None:
        """One batch.

        Args:
            calls: Of its pass.
            gradients: Of the summed f in the output of each call; None where f does not depend on it.
            members: [B] which records these are.
            lengths: [B] tokens of each; what follows is padding.

        Raises:
            ModelError: f depends on padding.
        """
        for call, gradient in zip(calls, gradients, strict=True):
            if gradient is not None:
                uses = self._by_module[id(call.module)]
                _refuse_padding(uses[0][1], gradient, lengths)
                self._add_call(call, gradient.detach(), torch.tensor(members, device=gradient.device), uses)

    def _add_call(
        self, call: LayerCall, gradient: torch.Tensor, members: torch.Tensor, uses: Seq[tuple[int, Use]]
    ) -> None:
        g = gradient.float().reshape(len(members), -1, gradient.shape[-1])
        a = call.entered.reshape(len(members), g.shape[1], -1)
        says = (g != 0).any(dim=2)
        owners = members[says.nonzero()[:, 0]]
        for place, use in uses:
            if use.role == "outer":
                kept, entered = g[says], a[says].float()
                factors = use.convert(entered, kept) if use.convert else (kept, entered)
                self._outers.setdefault(place, []).append((*factors, owners))
            elif use.role == "lookup":
                ids = a[says][:, 0]
                is_trained = ids != (-1 if use.module.padding_idx is None else use.module.padding_idx)
                piece = ids[is_trained], g[says][is_trained], owners[is_trained]
                self._lookups.setdefault(place, []).append(piece)
            else:
                shares = g * a.float() if use.role == "scale" else g
                if place not in self._vectors:
                    self._vectors[place] = torch.zeros(self._n_records, g.shape[2], device=g.device)
                self._vectors[place][members] += shares.sum(dim=1)

    def finish(self) -> list[Held]:
        """What was gathered of each parameter; the store is empty afterwards."""
        held: list[Held] = []
        for place in range(len(self._parameters)):
            one = Held(self._n_records, vectors=self._vectors.pop(place, None))
            if place in self._outers:
                one.outer = self._joined(self._outers.pop(place))
            if place in self._lookups:
                one.lookup = self._summed(self._lookups.pop(place))
            held.append(one)
        return held

    def _joined(self, pieces: list[tuple[torch.Tensor, ...]]) -> Outer:
        left, right, owners = (torch.cat(side) for side in zip(*pieces, strict=True))
        pieces.clear()
        order = torch.argsort(owners, stable=True)
        return Outer(left[order], right[order], owners[order], self._n_records)

    def _summed(self, pieces: list[tuple[torch.Tensor, ...]]) -> Lookup:
        ids, values, owners = (torch.cat(side) for side in zip(*pieces, strict=True))
        keys, where = torch.unique(ids * self._n_records + owners, return_inverse=True)
        total = torch.zeros(len(keys), values.shape[1], device=values.device).index_add_(0, where, values)
        return Lookup(keys // self._n_records, total, keys % self._n_records, self._n_records)


def _refuse_padding(use: Use, gradient: torch.Tensor, lengths: IntArray) -> None:
    n_tokens = int(lengths.max())
    if gradient.ndim != 3 or gradient.shape[1] != n_tokens:
        return
    is_padding = torch.arange(n_tokens)[None] >= torch.from_numpy(lengths)[:, None]
    if bool(gradient[is_padding.to(gradient.device)].any()):
        raise ModelError(
            f"The gradient in layer '{use.layer}' is not zero at padding, so what the model says of a record depends "
            "on the records beside it. Expected padding to count for nothing. Use a batch size of 1."
        )
