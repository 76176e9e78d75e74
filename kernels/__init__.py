"""Triton kernels, installed as ``fastift.kernels``: an implementation detail of `fastift.ops`. Importing this loads no Triton."""
