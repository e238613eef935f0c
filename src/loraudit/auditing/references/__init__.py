"""Models that a target is compared with beside its base: distilled and public references, and shadow models."""
