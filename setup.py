"""Packages and where they lie: kernels/ is installed as fastift.kernels. Everything else is in pyproject.toml."""

from setuptools import setup

setup(
    packages=["fastift", "fastift.models", "fastift.train", "fastift.transform", "fastift.kernels"],
    package_dir={"fastift": "fastift", "fastift.kernels": "kernels"},
    package_data={"fastift": ["py.typed"], "fastift.models": ["*.safetensors", "*.md"]},
)
