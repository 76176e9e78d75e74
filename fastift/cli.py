"""The command line. Bad input ends with one sentence on standard error and exit code 2."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from .errors import FastiftError, InvalidInputError

__all__ = ["main"]


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FastiftError as err:
            click.echo(f"fastift: error: {err}", err=True)
            ctx.exit(2)


def _list_of(kind: type, example: str) -> Callable:
    """A callback that reads numbers between commas."""

    def read(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple | None:
        if value is None:
            return None
        try:
            return tuple(kind(part) for part in value.split(","))
        except ValueError as err:
            raise click.BadParameter(f"expected numbers like {example}, got {value!r}") from err

    return read


LEVELS = _list_of(int, "4,3,2,1")
WEIGHTS = _list_of(float, "0.7,0.3")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fastift", prog_name="fastift")
def main() -> None:
    """Restyle a picture with the statistics of other pictures."""


@main.command()
@click.argument("content", type=click.Path(path_type=Path))
@click.argument("styles", metavar="STYLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The picture to write; its suffix says the format.",
)
@click.option(
    "-w",
    "--weights",
    callback=WEIGHTS,
    help="One weight for each style, like 0.7,0.3.  [default: equal]",
)
@click.option("-s", "--strength", type=float, help="From 0, the plain reconstruction, to 1.  [default: the preset's]")
@click.option(
    "-p",
    "--preset",
    type=click.Choice(["art", "photo"]),
    default="art",
    show_default=True,
    help="art: textures and colours; photo: keeps edges sharp.",
)
@click.option(
    "--levels",
    callback=LEVELS,
    help="Levels to restyle, like 4,3,2,1 (4 is coarsest).  [default: the preset's]",
)
@click.option("--size", type=click.IntRange(16), help="Reduce the content to this shorter side.  [default: keep]")
@click.option(
    "--style-size", type=click.IntRange(16), help="Reduce styles to this shorter side.  [default: the content's]"
)
@click.option("--keep-colours", is_flag=True, help="Restyle the luminance only.")
@click.option(
    "--model", default="slim", show_default=True, help="slim, a fastift weight file, or a folder of VGG-19 files."
)
@click.option("--device", help="Like cpu or cuda:0.  [default: a GPU if there is one]")
@click.option("--force", is_flag=True, help="Overwrite the output if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def stylize(
    content,
    styles,
    output,
    weights,
    strength,
    preset,
    levels,
    size,
    style_size,
    keep_colours,
    model,
    device,
    force,
    quiet,
):
    """Give the picture CONTENT the style of one or more pictures STYLE."""
    from .engine import Stylizer
    from .engine import stylize as restyle
    from .image import check_target, read_picture, write_picture

    check_target(output, force)
    picture = read_picture(content)
    style_pictures = [read_picture(s) for s in styles]
    started = time.perf_counter()
    out = restyle(
        picture, style_pictures, size=size, style_size=style_size, model=Stylizer(model, device=device), weights=weights,
        preset=preset, strength=strength, levels=levels, keep_colours=keep_colours,
    )  # fmt: skip
    result = read_picture(out)
    write_picture(output, result.pixels, alpha=result.alpha, icc_profile=picture.icc_profile, force=force)
    if not quiet:
        click.echo(f"{output}: {out.width} x {out.height}, {time.perf_counter() - started:.1f} s")


@main.command()
@click.option(
    "-o",
    "--output",
    default="fastift-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the pictures.",
)
@click.option(
    "--width", type=click.IntRange(64, 4096), default=768, show_default=True, help="Width of the drawn photograph."
)
@click.option("--device", help="Like cpu or cuda:0.  [default: a GPU if there is one]")
@click.option("--force", is_flag=True, help="Overwrite pictures of an earlier demo.")
def demo(output, width, device, force):
    """Draw a content and styles, restyle, and write strips that compare strengths. Needs no pictures and no network."""
    from tqdm import tqdm

    from .demo import run_demo

    with tqdm(desc="demo", unit="picture", leave=False) as bar:
        written = run_demo(
            output, width=width, device=device, force=force, progress=lambda done, total: _advance(bar, done, total)
        )
    for path in written:
        click.echo(str(path))


def _advance(bar, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


@main.command()
def doctor() -> None:
    """Say which versions, devices and backends are here, and why others cannot run."""
    from .doctor import diagnose

    click.echo("\n".join(diagnose()))


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite the target if it exists.")
def convert(source, target, force):
    """Convert a PyTorch state dict (.pth) SOURCE to safetensors TARGET. Only tensors are unpickled."""
    from .image import check_free
    from .weights import convert_pickle

    check_free(target, force)
    names = convert_pickle(source, target)
    click.echo(f"{target}: {len(names)} tensors")


@main.command()
@click.argument("images", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The weight file to write (.safetensors)."
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Encoder file to distil a new encoder from.")
@click.option("--encoder", type=click.Path(path_type=Path), help="Encoder file to keep; only decoders are trained.")
@click.option(
    "--recipe", type=click.Choice(["paper", "slim"]), default="paper", show_default=True, help="Settings to start from."
)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Folder of checkpoints and log."
)
@click.option("--restart", is_flag=True, help="Begin anew even if the folder holds a checkpoint.")
@click.option("--resize", type=click.IntRange(0), help="Shorter side images are reduced to, 0 keeps them.")
@click.option("--crop", type=click.IntRange(32), help="Side of the random crops.")
@click.option("--batch", type=click.IntRange(1), help="Crops a step in each process.")
@click.option("--encoder-steps", type=click.IntRange(0), help="Steps of distillation.")
@click.option("--decoder-steps", type=click.IntRange(0), help="Steps of the decoders, 0 counts epochs.")
@click.option("--learning-rate", type=float, help="Adam's, for the decoders.")
@click.option("--seed", type=int, help="Of weights and crops.")
@click.option("--device", help="Like cpu or cuda.  [default: a GPU if there is one]")
@click.option(
    "--precision", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
)
@click.option("--checkpoint-minutes", type=float, default=5.0, show_default=True)
@click.option("--force", is_flag=True, help="Overwrite the output if it exists.")
def train(
    images,
    output,
    teacher,
    encoder,
    recipe,
    runs,
    restart,
    learning_rate,
    device,
    precision,
    checkpoint_minutes,
    force,
    **changes,
):
    """Train encoder and decoders on the folder IMAGES; under torchrun, on several devices.

    Interrupted runs go on from their last checkpoint when the same command is given again.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from .autoencoder import SLIM as GEOMETRY
    from .image import check_free
    from .train import PAPER, SLIM
    from .train import train as run

    check_free(output, force)
    changes["decoder_lr"] = learning_rate
    chosen = replace({"paper": PAPER, "slim": SLIM}[recipe], **{k: v for k, v in changes.items() if v is not None})
    if teacher is not None and chosen.encoder_steps == 0:
        raise InvalidInputError(
            "fastift train: a teacher needs encoder steps, got 0; pass --encoder-steps or --recipe slim"
        )
    with tqdm(unit="step", dynamic_ncols=True) as bar:

        def report(entry: dict) -> None:
            bar.total = entry["steps"]
            bar.set_description(entry["phase"])
            bar.n = entry["step"] + 1
            bar.refresh()
            if "psnr" in entry:
                bar.write(
                    f"{entry['phase']} {entry['step'] + 1}: held-out PSNR (dB) "
                    + ", ".join(f"{k} {v:.2f}" for k, v in entry["psnr"].items())
                )

        run(
            images, output, recipe=chosen, config=GEOMETRY, teacher=teacher, encoder=encoder, runs=runs, device=device,
            precision=precision, checkpoint_minutes=checkpoint_minutes, resume=not restart, report=report,
        )  # fmt: skip
    click.echo(str(output))
