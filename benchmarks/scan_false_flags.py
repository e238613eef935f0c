"""How often `loraudit scan` flags a module of simulated ordinary adapters, and of ones with a planted direction.

    python benchmarks/scan_false_flags.py

Seven families of rank-8 updates whose factors B have log lengths that are normal (SD 0.25) within a family, with or
without a trend over depth; minutes on one core.
"""

import numpy as np

from loraudit.poisoning.spectra import low_rank_values, spectrum_of
from loraudit.scanning.weights import Changed, compare_modules

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WIDTH, RANK = 32, 8


def simulated(n_layers: int, trend: float, spike: float, seed: int) -> list[Changed]:
    rng = np.random.default_rng(seed)
    changed = []
    for kind in KINDS:
        scale, slope = rng.uniform(0.5, 2), rng.uniform(-trend, trend)
        for layer in range(n_layers):
            a = rng.standard_normal((RANK, WIDTH))
            length = scale * np.exp(0.25 * rng.standard_normal() + slope * layer / n_layers)
            b = rng.standard_normal((WIDTH, RANK)) * length * np.exp(-np.arange(RANK) * rng.uniform(0.2, 0.5))
            if kind == "q_proj" and layer == n_layers // 2:
                b[:, 0] *= spike
            spectrum = spectrum_of(low_rank_values(a, b, 2.0))
            changed.append(Changed(f"layers.{layer}.{kind}", "low_rank", (WIDTH, WIDTH), RANK, spectrum))
    return changed


def rates(n_layers: int, trend: float, spike: float, n: int) -> tuple[float, float]:
    """Share of adapters with any flag, and with the altered module flagged."""
    n_any = n_found = 0
    for seed in range(n):
        changed = simulated(n_layers, trend, spike, seed)
        compared = compare_modules(changed, level=0.05, factor=2.0, rng=np.random.default_rng(1))
        flagged = {module.name for module in compared.modules if module.flagged}
        n_any += bool(flagged)
        n_found += f"layers.{n_layers // 2}.q_proj" in flagged
    return n_any / n, n_found / n


if __name__ == "__main__":
    for n_layers, n in ((4, 200), (12, 100), (32, 60)):
        print(
            f"{n_layers} layers, {n} adapters: flagged {rates(n_layers, 0, 1, n)[0]:.3f}, with a trend "
            f"{rates(n_layers, 1, 1, n)[0]:.3f}; found 6 ×: {rates(n_layers, 0, 6, n)[1]:.2f}, 20 ×: "
            f"{rates(n_layers, 0, 20, n)[1]:.2f}",
            flush=True,
        )
