"""Neural style transfer by optimisation: the loss falls, both optimisers, early stop, blended styles, untouched models."""

from __future__ import annotations

import pytest
import torch
from features import relative

from fastift import InvalidInputError, Stylizer
from fastift.art import draw_content, draw_styles
from fastift.image import as_batch
from fastift.nst import nst


@pytest.fixture(scope="module")
def content() -> torch.Tensor:
    return as_batch(draw_content(48, 40))


@pytest.fixture(scope="module")
def styles() -> list[torch.Tensor]:
    return [as_batch(s) for s in draw_styles(48).values()]


def distance(stylizer: Stylizer, x: torch.Tensor, style) -> float:
    seen = stylizer.style(x)
    return sum(relative(seen.levels[n].gram, style.levels[n].gram) for n in style.levels)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_comes_closer_to_the_style(stylizer: Stylizer, content, styles, optimiser: str) -> None:
    losses, learnable = [], [p.requires_grad for p in stylizer.model.parameters()]
    out = nst(
        content,
        styles[1],
        model=stylizer,
        steps=25,
        optimiser=optimiser,
        progress=lambda step, loss: losses.append(loss),
    )
    style = stylizer.style(styles[1])
    assert out.shape == content.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    assert distance(stylizer, out, style) < 0.6 * distance(stylizer, content, style)
    assert losses[-1] < 0.5 * losses[0]
    assert not out.requires_grad
    assert [p.requires_grad for p in stylizer.model.parameters()] == learnable


def test_stops_early_and_blends(stylizer: Stylizer, content, styles) -> None:
    steps = []
    own = stylizer.style(content)
    nst(content, own, model=stylizer, steps=100, progress=lambda step, loss: steps.append(step))
    assert len(steps) < 30
    both = nst(content, styles[:2], weights=[1, 3], model=stylizer, steps=10)
    blended = stylizer.style(styles[:2], [1, 3])
    assert distance(stylizer, both, blended) < distance(stylizer, content, blended)


def test_refusals(stylizer: Stylizer, content, styles) -> None:
    for setting, why in [
        ({"optimiser": "sgd"}, "optimiser must be"),
        ({"steps": 0}, "steps must be"),
        ({"style_weight": -1.0}, "style_weight"),
        ({"levels": (5,)}, "levels and content_level"),
        ({"content_level": 0}, "levels and content_level"),
    ]:
        with pytest.raises(InvalidInputError, match=why):
            nst(content, styles[0], model=stylizer, **setting)
