"""Parity, training and speed on one device; started by `scripts/gpu-check`, described in `main`.

Everything here needs the standard library, numpy, torch, and medsam's models, losses and prompt simulation; no more.
"""
