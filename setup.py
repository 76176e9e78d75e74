"""Packages and where they lie, and the C++ library if this machine can compile it. Everything else is in pyproject.toml."""

import os
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

build = runpy.run_path(str(Path(__file__).resolve().parent / "fastift" / "_build.py"))
why_not = "FASTIFT_BUILD=0" if os.environ.get("FASTIFT_BUILD") == "0" else build["why_not"]()
print(f"fastift: C++ library {'is not built: ' + why_not if why_not else 'is built'}", file=sys.stderr)


class BuildExt(build_ext):
    def get_ext_filename(self, fullname):
        # no Python symbols inside, so no version in its name
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext):
        build["build"](Path(self.get_ext_fullpath(ext.name)).resolve())


class Wheel(bdist_wheel):
    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(
    packages=["fastift", "fastift.models", "fastift.train", "fastift.transform", "fastift.kernels", "fastift.csrc"],
    package_dir={"fastift": "fastift", "fastift.kernels": "kernels", "fastift.csrc": "csrc"},
    package_data={
        "fastift": ["py.typed"],
        "fastift.models": ["*.safetensors", "*.md"],
        "fastift.csrc": ["*.cpp", "*.h", "*.inc"],
    },
    ext_modules=[] if why_not else [Extension("fastift._C", [])],
    cmdclass={"build_ext": BuildExt, "bdist_wheel": Wheel},
)
