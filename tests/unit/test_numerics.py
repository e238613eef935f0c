"""Which devices a name stands for, on machines that are only pretended."""

from __future__ import annotations

import platform

import pytest
import torch

from loraudit.errors import ConfigError, EnvironmentFault
from loraudit.models import Numerics, resolve_devices
from loraudit.models.numerics import device_kind, has_fast_bfloat16


@pytest.fixture
def machine(monkeypatch):
    """Pretend a number of CUDA devices, or Apple's."""

    def pretend(*, n_cuda: int = 0, mps: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    pretend()
    return pretend


@pytest.mark.parametrize(
    ("n_cuda", "mps", "device", "expected"),
    [
        (0, False, "auto", ["cpu"]),
        (0, True, "auto", ["mps"]),
        (2, False, "auto", ["cuda:0"]),
        (2, True, "auto", ["cuda:0"]),
        (0, False, "cpu", ["cpu"]),
        (2, False, "cpu", ["cpu"]),
        (1, False, "cuda", ["cuda"]),
        (2, False, "cuda:1", ["cuda:1"]),
        (3, False, "cuda:0,cuda:2", ["cuda:0", "cuda:2"]),
        (2, False, " cuda:0 , cuda:1 ,", ["cuda:0", "cuda:1"]),
        (4, False, "balanced", ["balanced"]),
        (0, True, "mps", ["mps"]),
    ],
)
def test_a_name_stands_for_devices(machine, n_cuda, mps, device, expected):
    machine(n_cuda=n_cuda, mps=mps)
    assert resolve_devices(device) == expected


@pytest.mark.parametrize(
    "device",
    [
        "",
        " , ",
        "tpu",
        "gpu",
        "CPU",
        "cpu,cuda",
        "cuda:0,mps",
        "cuda:0,cuda:0",
        "cpu,cpu",
        "balanced,cuda:0",
        "auto,cpu",
    ],
)
def test_a_malformed_name_is_refused_with_the_forms_there_are(machine, device):
    machine(n_cuda=2, mps=True)
    with pytest.raises(ConfigError, match=r"Device '.*' is not known. Expected auto, cpu, cuda, mps, cuda:1"):
        resolve_devices(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:0,cuda:1"])
def test_cuda_without_a_gpu_is_the_fault_of_the_machine(machine, device):
    with pytest.raises(EnvironmentFault, match=r"Device '.*' needs CUDA, and none is available. Use: --device cpu"):
        resolve_devices(device)


def test_balanced_without_a_gpu_is_the_fault_of_the_machine(machine):
    with pytest.raises(EnvironmentFault, match=r"Device 'balanced' needs CUDA, and none is available"):
        resolve_devices("balanced")


@pytest.mark.parametrize("device", ["cuda:2", "cuda:0,cuda:5", "cuda:10"])
def test_a_gpu_that_is_not_there_is_named_with_their_number(machine, device):
    machine(n_cuda=2)
    with pytest.raises(EnvironmentFault, match=r"Device 'cuda:.*' does not exist; this machine has 2 CUDA devices"):
        resolve_devices(device)


def test_mps_on_another_machine_is_refused(machine):
    with pytest.raises(EnvironmentFault, match=r"Device 'mps' is not available on this machine. Use: --device cpu"):
        resolve_devices("mps")


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        (["cpu"], "cpu"),
        (["mps"], "mps"),
        (["cuda"], "cuda"),
        (["cuda:0", "cuda:1"], "cuda"),
        (["balanced"], "cuda"),
    ],
)
def test_the_kind_of_some_devices(devices, kind):
    assert device_kind(devices) == kind


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precisions_have_a_torch_type_and_stand_in_the_key_of_the_evidence(precision, dtype):
    numerics = Numerics("cpu", precision)
    assert numerics.dtype == dtype
    assert numerics.conditions()["precision"] == precision
    assert numerics.conditions()["device"] == "cpu"


@pytest.mark.parametrize("supports", [True, False])
def test_cuda_has_fast_bfloat16_where_the_gpu_says_so(monkeypatch, supports):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: supports)
    assert has_fast_bfloat16("cuda") is supports


def test_bfloat16_that_cuda_only_emulates_is_not_fast(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )  # as torch answers on a T4 or V100
    assert not has_fast_bfloat16("cuda")


def test_mps_has_no_fast_bfloat16():
    assert not has_fast_bfloat16("mps")


@pytest.mark.parametrize(
    ("processor", "capabilities", "expected"),
    [
        ("x86_64", {"avx512_bf16": True}, True),
        ("AMD64", {"amx_bf16": True}, True),
        ("x86_64", {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ("x86_64", {}, False),
        ("arm64", {"avx512_bf16": True}, False),
        ("aarch64", {}, False),
    ],
)
def test_a_processor_has_fast_bfloat16_where_it_has_the_instructions(monkeypatch, processor, capabilities, expected):
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bfloat16("cpu") is expected


def test_a_torch_that_cannot_say_has_no_fast_bfloat16(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_fast_bfloat16("cpu") is False
