"""The transforms by name, under one dial: what the engine, the command line and comparisons choose from."""

from __future__ import annotations

from dataclasses import dataclass

from ..affine import Affine
from ..errors import DivergenceError, InvalidInputError
from ..moments import Moments
from .adain import adain
from .ift import N_UPD, ift, ift_scale_free
from .line_search import ift_line_search
from .ot import ot
from .wct import wct

__all__ = ["PAPER_SETTINGS", "TRANSFORMS", "Solver", "solve"]

TRANSFORMS = ("ift", "ift_line_search", "wct", "ot", "adain")

PAPER_SETTINGS = {1: (1e4, 5), 2: (1e4, 10), 3: (1e3, 10), 4: (1e2, 10)}
"""lam and n_upd of the authors' published code for relu1_1 .. relu4_1 (features of mean activation 1), for mode "paper"."""

LINE_SEARCH_STEPS = 20
"""n_upd of "ift_line_search" unless it is given: its Gram distance hardly falls after them."""


def solve(
    name: str,
    content: Moments,
    style: Moments,
    *,
    strength: float,
    mode: str = "scale_free",
    lam: float | None = None,
    lr: float = 0.01,
    n_upd: int | None = None,
    n_iter: int = 1,
) -> Affine:
    """The map of one named transform; settings as in `Solver`, where mode "paper" needs lam and n_upd."""
    if name == "ift" and mode == "scale_free":
        return ift_scale_free(content, style, strength=strength, n_upd=N_UPD if n_upd is None else n_upd)
    if name == "ift":
        return ift(content, style, lam=lam, lr=lr, n_upd=n_upd, n_iter=n_iter).toward_identity(strength)
    if name == "ift_line_search":
        steps = LINE_SEARCH_STEPS if n_upd is None else n_upd
        return ift_line_search(content, style, lam=lam, n_upd=steps, n_iter=n_iter).toward_identity(strength)
    return {"wct": wct, "ot": ot, "adain": adain}[name](content, style, alpha=strength)


@dataclass(frozen=True)
class Solver:
    """Finds the map of a level from the moments of content and style.

    transforms: a name a level; strengths: the dial a level, in [0, 1]: it blends the map with the identity (alpha).
    n_upd is one number, or one a level; lam likewise, for "ift" in mode "paper" and for "ift_line_search".
    """

    transforms: dict[int, str]
    strengths: dict[int, float]
    mode: str = "scale_free"
    lam: float | dict[int, float] | None = None
    lr: float = 0.01
    n_upd: int | dict[int, int] | None = None
    n_iter: int = 1

    def acts_on(self, level: int) -> bool:
        return self.strengths.get(level, 0.0) > 0

    def __call__(self, level: int, content: Moments, style: Moments) -> Affine:
        lam, n_upd = (self._of(setting, level) for setting in (self.lam, self.n_upd))
        if self.transforms[level] == "ift" and self.mode == "paper":
            default_lam, default_upd = PAPER_SETTINGS[min(level, 4)]
            lam, n_upd = default_lam if lam is None else lam, default_upd if n_upd is None else n_upd
        try:
            return solve(
                self.transforms[level], content, style, strength=self.strengths[level], mode=self.mode, lam=lam, lr=self.lr,
                n_upd=n_upd, n_iter=self.n_iter,
            )  # fmt: skip
        except (DivergenceError, InvalidInputError) as err:
            raise type(err)(f"relu{level}_1: {err}") from err

    @staticmethod
    def _of(setting, level: int):
        return setting.get(level) if isinstance(setting, dict) else setting
