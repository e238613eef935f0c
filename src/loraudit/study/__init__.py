"""Grids of runs: cells named by what they ask, carried out by any engine, read together in one report."""
