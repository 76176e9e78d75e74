"""How exactly the collapsed iteration equals the paper's loop: relative difference of the features, in float64 and float32."""

from __future__ import annotations

import torch

from fastift import Moments, apply, ift, ift_loop, largest_stable_lam, moments

SHAPES = ((512, 1024), (256, 4096), (128, 16384), (64, 65536))


def main() -> None:
    torch.manual_seed(0)
    print(
        "(C, n)          n_upd n_iter   float64   float32   (relative to the loop in the same dtype; float32 also to float64)"
    )
    for channels, pixels in SHAPES:
        mix = torch.rand(channels, channels, dtype=torch.float64)
        f, g = ((mix @ torch.randn(channels, pixels, dtype=torch.float64)).relu()[None] for _ in range(2))
        f, g = f / f.mean(), 1.3 * g / g.mean()
        for n_upd in (15, 100):
            for n_iter in (1, 3):
                style = moments(g)
                lam = 0.5 * largest_stable_lam(moments(f), style)
                settings = {"lam": lam, "n_upd": n_upd, "n_iter": n_iter}
                exact = ift_loop(f, style, **settings)
                errors = [difference(f, style, settings, exact)]
                single, style32 = f.float(), Moments(*(t.float() for t in style))
                errors.append(difference(single, style32, settings, ift_loop(single, style32, **settings)))
                errors.append(difference(single, style32, settings, exact))
                print(
                    f"{(channels, pixels)!s:<15} {n_upd:5} {n_iter:6}   " + "   ".join(f"{e:.1e}" for e in errors),
                    flush=True,
                )


def difference(f: torch.Tensor, style: Moments, settings: dict, want: torch.Tensor) -> float:
    got = apply(f, ift(moments(f), style, **settings)).double()
    return float((got - want.double()).norm() / want.double().norm())


if __name__ == "__main__":
    main()
