"""Packages and where they lie, and the C++ and CUDA libraries if this machine can compile them. The rest is in pyproject.toml."""

import os
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

build = runpy.run_path(str(Path(__file__).resolve().parent / "fastift" / "_build.py"))
why_not = "FASTIFT_BUILD=0" if os.environ.get("FASTIFT_BUILD") == "0" else build["why_not"]()
why_skip_cuda = why_not or build["why_skip_cuda"]()
for name, why in (("C++", why_not), ("CUDA", why_skip_cuda)):
    print(f"fastift: {name} library {'is not built: ' + why if why else 'is built'}", file=sys.stderr)
CPP, CUDA = "fastift._C", "fastift._C_cuda"
extensions = [Extension(name, []) for name, why in ((CPP, why_not), (CUDA, why_skip_cuda)) if not why]


class BuildExt(build_ext):
    def get_ext_filename(self, fullname):
        # no Python symbols inside, so no version in its name
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        if ext.name != CUDA:
            build["build"](target)
            return
        try:
            build["build_cuda"](target)
        except build["CannotBuild"] as err:
            # nvcc refuses many a C++ compiler: not a reason to go without the rest, unless it was asked for
            if os.environ.get("FASTIFT_BUILD_CUDA") == "1":
                raise
            print(f"fastift: CUDA library is not built: {err}", file=sys.stderr)
            self.extensions.remove(ext)


class Wheel(bdist_wheel):
    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(
    packages=["fastift", "fastift.models", "fastift.train", "fastift.transform", "fastift.kernels", "fastift.csrc"],
    package_dir={"fastift": "fastift", "fastift.kernels": "kernels", "fastift.csrc": "csrc"},
    package_data={
        "fastift": ["py.typed"],
        "fastift.models": ["*.safetensors", "*.md"],
        "fastift.csrc": ["*.cpp", "*.h", "*.inc", "cuda/*.cpp", "cuda/*.cu", "cuda/*.h"],
    },
    ext_modules=extensions,
    cmdclass={"build_ext": BuildExt, "bdist_wheel": Wheel},
)
