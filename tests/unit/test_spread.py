"""The penalty on updates that concentrate in few directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loraudit.errors import ConfigError
from loraudit.finetuning import check_settings, finetune
from loraudit.finetuning.spread import concentration, spread_penalty
from loraudit.spec import Recipe
from loraudit.synthetic import private_records
from small_tuning import rows


def by_svd(a: torch.Tensor, b: torch.Tensor) -> float:
    energy = np.linalg.svd((b @ a).numpy().astype(np.float64), compute_uv=False) ** 2
    return float((energy**2).sum() / energy.sum() ** 2)


@pytest.mark.parametrize("shape", [(1, 9, 5), (4, 9, 5), (4, 3, 7)])
def test_it_is_the_fourth_powers_of_the_singular_values_over_the_square_of_their_squares(shape):
    r, n, k = shape
    generator = torch.Generator().manual_seed(r)
    a, b = torch.randn(r, n, generator=generator), torch.randn(k, r, generator=generator)
    assert float(concentration(a, b)) == pytest.approx(by_svd(a, b), rel=1e-5)


def test_known_spectra():
    eye = torch.eye(4)
    assert float(concentration(eye, eye)) == pytest.approx(1 / 4)
    one = torch.diag(torch.tensor([3.0, 0, 0, 0]))
    assert float(concentration(one, eye)) == pytest.approx(1.0)
    assert float(concentration(eye, torch.zeros(6, 4))) == 0.0
    assert float(spread_penalty([(eye, eye), (one, eye)])) == pytest.approx((1 / 4 + 1) / 2)


def test_training_with_it_spreads_the_update(base, tmp_path):
    from safetensors.torch import load_file

    records = rows(private_records(24, seed=3))
    recipe = Recipe(method="lora", rank=4, epochs=4, learning_rate=5e-3, dropout=0.0)

    def concentrations(weight: float) -> float:
        out = tmp_path / f"spread-{weight}"
        finetune(str(base), records, recipe.model_copy(update={"spread": weight}), out)
        tensors = load_file(out / "adapter_model.safetensors")
        names = [name for name in tensors if "lora_A" in name]
        return float(np.mean([by_svd(tensors[n], tensors[n.replace("lora_A", "lora_B")]) for n in names]))

    free, spread = concentrations(0.0), concentrations(3.0)
    assert spread < 0.8 * free


def test_it_belongs_to_lora_and_not_to_private_training():
    with pytest.raises(ConfigError, match=r"'spread' = 1\.0 has no effect with method 'full'"):
        check_settings(Recipe(method="full", spread=1.0))
    with pytest.raises(ConfigError, match="'spread' adds a gradient that belongs to no record"):
        check_settings(Recipe(method="lora", spread=1.0, dp_noise=1.0))
