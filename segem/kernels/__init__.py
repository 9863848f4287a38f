"""Kernels: arrays in, arrays out; no disk, no torch."""
