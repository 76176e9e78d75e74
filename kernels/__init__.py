"""Triton kernels, installed as ``fastift.kernels``: an implementation detail. There are none yet; see ``fastift.backends()``."""
