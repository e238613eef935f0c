"""Load checkpoints and adapters whole or not at all.

The libraries only warn about missing, renamed, mismatched or NaN tensors; here each of them is an error.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loraudit.errors import EnvironmentFault, ModelError
from loraudit.models.locate import ADAPTER_WEIGHTS, Source
from loraudit.models.numerics import BALANCED, Numerics, is_out_of_memory

_NAMED_AT_MOST = 5
AGAIN = "Save or download it again."
_OTHER_TASKS = ("MaskedLM", "Classification", "QuestionAnswering", "MultipleChoice", "PreTraining")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars and warnings from transformers, peft, accelerate and sentence-transformers.

    What they would warn of when loading is checked here and reported as an error.
    """
    import transformers

    names = ("transformers", "peft", "accelerate", "sentence_transformers")
    levels = {name: logging.getLogger(name).level for name in names}
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bar:
            transformers.utils.logging.enable_progress_bar()


def load_checkpoint(
    source: Source, numerics: Numerics, device: str, *, allow_pickle: bool = False, allow_remote_code: bool = False
) -> Any:
    """A causal language model in evaluation mode.

    Raises:
        ModelError: Weights are missing, left over, of another shape, damaged or not finite; or the
            architecture is no causal language model.
        EnvironmentFault: It does not fit into memory.
    """
    _refuse_other_tasks(source)
    model, info = _load(
        "AutoModelForCausalLM",
        source,
        numerics,
        device,
        allow_pickle=allow_pickle,
        allow_remote_code=allow_remote_code,
    )
    _refuse_unfit(source, info, "missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    _refuse_nonfinite(source.name, model)
    model.requires_grad_(False)
    return model.eval()


def load_classifier(
    source: Source, numerics: Numerics, device: str, labels: Sequence[str], pad_id: int | None
) -> tuple[Any, list[str]]:
    """A sequence classifier over `labels`, and the names of parameters that the checkpoint has no values for.

    Those belong to the classification head (and to a pooler before it): random, and to be trained. A head of
    another number of labels counts as missing. Weights of other heads are left out.

    Raises:
        ModelError: Anything of the body is missing, damaged or of another shape.
        EnvironmentFault: It does not fit into memory.
    """
    more: dict[str, Any] = {} if pad_id is None else {"pad_token_id": pad_id}
    model, info = _load(
        "AutoModelForSequenceClassification",
        source,
        numerics,
        device,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: position for position, label in enumerate(labels)},
        **more,
    )
    _refuse_unfit(source, info, "error_msgs")
    body = f"{model.base_model_prefix}."
    new = [_key(name) for kind in ("missing_keys", "mismatched_keys") for name in info.get(kind) or ()]
    of_body = [name for name in new if name.startswith(body) and not name.startswith(f"{body}pooler.")]
    if of_body:
        raise ModelError(
            f"Model '{source.name}' lacks {len(of_body)} weights of its body ({_some(of_body)}): its weights do not "
            f"belong to its config.json. {AGAIN}"
        )
    _refuse_nonfinite(source.name, model)
    model.requires_grad_(False)
    return model.eval(), new


def load_trained_classifier(
    source: Source, numerics: Numerics, device: str, *, allow_pickle: bool = False, allow_remote_code: bool = False
) -> Any:
    """A sequence classifier in evaluation mode, as it was trained: head and all.

    Raises:
        ModelError: Weights of body or head are missing, damaged, not finite or of another shape.
        EnvironmentFault: It does not fit into memory.
    """
    model, info = _load(
        "AutoModelForSequenceClassification",
        source,
        numerics,
        device,
        allow_pickle=allow_pickle,
        allow_remote_code=allow_remote_code,
    )
    _refuse_unfit(source, info, "missing_keys", "mismatched_keys", "error_msgs")
    _refuse_nonfinite(source.name, model)
    model.requires_grad_(False)
    return model.eval()


def check_encoder(
    source: Source, numerics: Numerics, device: str, *, allow_pickle: bool = False, allow_remote_code: bool = False
) -> None:
    """Raise unless a folder has all weights of its encoder; a pooler over the first token may be absent.

    For libraries that load an encoder themselves and only warn of what is missing.

    Raises:
        ModelError: Weights are missing, damaged, not finite or of another shape.
        EnvironmentFault: It does not fit into memory.
    """
    model, info = _load(
        "AutoModel", source, numerics, device, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code
    )
    missing = [name for name in map(_key, info.get("missing_keys") or ()) if not name.startswith("pooler.")]
    _refuse_unfit(source, {**info, "missing_keys": missing}, "missing_keys", "mismatched_keys", "error_msgs")
    _refuse_nonfinite(source.name, model)


def _load(
    kind: str,
    source: Source,
    numerics: Numerics,
    device: str,
    *,
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
    **more: Any,
) -> tuple[Any, Any]:
    """A model of one of transformers' classes, and what the loader says about its weights."""
    import transformers

    options: dict[str, Any] = {
        "dtype": numerics.dtype,
        "trust_remote_code": allow_remote_code,
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # named by the caller; the loader's own report of them is not shown
        **more,
    }
    if not allow_pickle:
        options["use_safetensors"] = True
    if device == BALANCED:
        options["device_map"] = BALANCED
    try:
        with quiet_libraries():
            model, info = getattr(transformers, kind).from_pretrained(str(source.folder), **options)
            return (model if device == BALANCED else model.to(device)), info
    except Exception as error:  # the loader raises a dozen kinds; all mean that this model cannot be used
        _refuse_for_memory(error, source.name, device)
        raise ModelError(f"Model '{source.name}' cannot be loaded: {_reason(error)} {AGAIN}") from error


def _refuse_unfit(source: Source, info: Any, *problems: str) -> None:
    for problem in problems:
        names = [_key(name) for name in info.get(problem) or ()]
        if names:
            raise ModelError(
                f"Model '{source.name}' has {problem.replace('_', ' ')} ({_some(names)}): its weights do not "
                f"belong to its config.json. {AGAIN}"
            )


def _key(name: Any) -> str:
    return str(name[0] if isinstance(name, tuple) else name)


def load_adapter(base: Any, source: Source, base_name: str) -> Any:
    """`base` with the adapter `source` on it, as a `PeftModel` in evaluation mode.

    Raises:
        ModelError: The adapter's file is damaged or does not fit this base, tensor by tensor.
    """
    import peft

    path, tensors = _read_stored(source, lambda _, name: name)
    stored = set(tensors)
    try:
        with quiet_libraries():
            model = peft.PeftModel.from_pretrained(base, str(source.folder), is_trainable=False)
            expected = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    except Exception as error:  # as above: a dozen kinds of failure, one meaning
        _refuse_for_memory(error, source.name, "the device")
        raise ModelError(
            f"Adapter '{source.name}' cannot be put on base '{base_name}': {_reason(error)} "
            "Check that this is the base it was trained on (--base)."
        ) from error
    if stored:
        missing = sorted(expected - stored)
        if missing:
            raise ModelError(
                f"Adapter file '{path}' lacks {len(missing)} of {len(expected)} tensors ({_some(missing)}). "
                "It is incomplete, or made for another base; give the right one with --base."
            )
        left_over = sorted(name for name in stored - expected if "lora_" in name or "adapter" in name)
        if left_over:
            raise ModelError(
                f"Adapter file '{path}' holds {len(left_over)} tensors that base '{base_name}' has no place for "
                f"({_some(left_over)}). Give the base it was trained on with --base."
            )
    _refuse_nonfinite(source.name, model)
    model.requires_grad_(False)
    return model.eval()


def stored_tensors_of(source: Source) -> tuple[Path, dict[str, Any]]:
    """File and tensors of an adapter's weights, on the CPU.

    Raises:
        ModelError: The file is damaged.
    """
    return _read_stored(source, lambda opened, name: opened.get_tensor(name))


def _read_stored(source: Source, read: Callable[[Any, str], Any]) -> tuple[Path, dict[str, Any]]:
    """File of an adapter's weights, and what `read` takes of each tensor; of a pickle the tensors."""
    import torch
    from safetensors import SafetensorError, safe_open

    path = source.folder / ADAPTER_WEIGHTS
    try:
        if path.exists():
            with safe_open(path, framework="pt") as opened:
                return path, {name: read(opened, name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        path = source.folder / "adapter_model.bin"
        return path, dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"Adapter file '{path}' is damaged: {_reason(error)} {AGAIN}") from None


def _reason(error: Exception) -> str:
    """The first line that says something: of several, the first that names a tensor; never advice to run code."""
    if "weights_only" in str(error):
        return "its pickle holds more than tensors, and is not opened."
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    said = next((line for line in lines if line.startswith("size mismatch")), lines[0])
    return f"{said.rstrip('.:')}."


def _refuse_for_memory(error: Exception, name: str, device: str) -> None:
    if is_out_of_memory(error):
        raise EnvironmentFault(
            f"Model '{name}' does not fit into the memory of {device}. Use a lower --precision, "
            "another --device, or --device balanced to spread it over several GPUs."
        ) from None


def _refuse_other_tasks(source: Source) -> None:
    """Some classes load any task's weights and would give scores that mean nothing."""
    for name in source.config.get("architectures") or ():
        if any(task in str(name) for task in _OTHER_TASKS):
            raise ModelError(f"Model '{source.name}' is a {name}. Expected a causal language model.")


def _refuse_nonfinite(name: str, model: Any) -> None:
    for tensor_name, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"Model '{name}' has NaN or infinite values in tensor '{tensor_name}'. "
                "Its training diverged or the file is damaged; audit an earlier checkpoint."
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    return shown + (f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else "")
