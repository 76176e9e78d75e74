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


PRESET = click.option(
    "-p",
    "--preset",
    type=click.Choice(["art", "photo"]),
    default="art",
    show_default=True,
    help="art: textures and colours; photo: keeps edges sharp.",
)
LEVELS = click.option(
    "--levels",
    callback=_list_of(int, "4,3,2,1"),
    help="Levels to restyle, like 4,3,2,1 (4 is coarsest).  [default: the preset's]",
)
FLOW = click.option(
    "--flow",
    type=click.Choice(["cascade", "single_pass", "encoder_side"]),
    help="Encode and decode once a level, or once in all.  [default: the preset's]",
)
MODEL = click.option(
    "--model", default="slim", show_default=True, help="slim, a fastift weight file, or a folder of VGG-19 files."
)
DEVICE = click.option("--device", help="Like cpu or cuda:0.  [default: a GPU if there is one]")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
FORCE = click.option("--force", is_flag=True, help="Overwrite the output if it exists.")


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
    callback=_list_of(float, "0.7,0.3"),
    help="One weight for each style, like 0.7,0.3.  [default: equal]",
)
@click.option("-s", "--strength", type=float, help="From 0, the plain reconstruction, to 1.  [default: the preset's]")
@PRESET
@LEVELS
@click.option(
    "-t",
    "--transform",
    type=click.Choice(["ift", "ift_line_search", "wct", "ot", "adain"]),
    default="ift",
    show_default=True,
    help="How statistics are brought to the style's.",
)
@FLOW
@click.option("--passes", type=click.IntRange(1, 100), default=1, show_default=True, help="Restyle the result again.")
@click.option("--mask", type=click.Path(path_type=Path), help="Picture of the content's regions, a colour each.")
@click.option("--style-mask", type=click.Path(path_type=Path), help="The style's regions in the same colours.")
@click.option("--size", type=click.IntRange(16), help="Reduce the content to this shorter side.  [default: keep]")
@click.option(
    "--style-size", type=click.IntRange(16), help="Reduce styles to this shorter side.  [default: the content's]"
)
@click.option("--keep-colours", is_flag=True, help="Restyle the luminance only.")
@click.option("--colours-only", is_flag=True, help="Restyle the colours only.")
@MODEL
@DEVICE
@FORCE
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def stylize(
    content,
    styles,
    output,
    weights,
    strength,
    preset,
    levels,
    transform,
    flow,
    passes,
    mask,
    style_mask,
    size,
    style_size,
    keep_colours,
    colours_only,
    model,
    device,
    force,
    quiet,
):
    """Give the picture CONTENT the style of one or more pictures STYLE.

    Several styles are blended. With --mask each region of the content gets one: the style of its colour in --style-mask, or
    without that, one STYLE for each colour of the mask, in ascending order of red, green and blue.
    """
    from .engine import Stylizer
    from .engine import stylize as restyle
    from .image import check_target, read_picture, write_picture

    check_target(output, force)
    picture = read_picture(content)
    style_pictures = [read_picture(s) for s in styles]
    started = time.perf_counter()
    if style_mask is not None:
        if mask is None or len(styles) > 1:
            raise InvalidInputError("fastift stylize: --style-mask needs --mask and one style")
        style_pictures = style_pictures[0]
    out = restyle(
        picture, style_pictures, size=size, style_size=style_size, model=Stylizer(model, device=device), weights=weights,
        preset=preset, strength=strength, levels=levels, transform=transform, flow=flow, passes=passes, mask=mask,
        style_mask=style_mask, keep_colours=keep_colours, colours_only=colours_only,
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
@DEVICE
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


CONTENT = click.argument("content", type=click.Path(path_type=Path))
STYLE = click.argument("style", type=click.Path(path_type=Path))
COMPARED = (
    click.option(
        "-o", "--output", required=True, type=click.Path(path_type=Path), help="The sheet of pictures to write."
    ),
    click.option("--size", type=click.IntRange(16), default=512, show_default=True, help="Shorter side."),
    PRESET,
    FLOW,
    LEVELS,
    click.option("--transforms", callback=_list_of(str, "ift,wct"), help="Some of them, like ift,wct.  [default: all]"),
    MODEL,
    DEVICE,
    JSON,
    FORCE,
)


def _compared(command: Callable) -> Callable:
    """The arguments that `compare` and `sweep` share."""
    for decorate in (*reversed(COMPARED), STYLE, CONTENT):
        command = decorate(command)
    return command


def _run_comparison(content, style, output, size, transforms, strengths, model, device, as_json, force, **settings):
    import json

    from tqdm import tqdm

    from .compare import compare, sheet, table
    from .engine import Stylizer
    from .image import check_target, read_picture, resize_shorter, to_pil, write_picture
    from .transform.named import TRANSFORMS

    check_target(output, force)
    transforms = transforms or TRANSFORMS
    pictures = [resize_shorter(read_picture(p).pixels, size) for p in (content, style)]
    with tqdm(unit="picture", leave=False) as bar:
        results = compare(
            *pictures, model=Stylizer(model, device=device), size=None, transforms=transforms, strengths=strengths,
            progress=lambda done, total: _advance(bar, done, total),
            **{k: v for k, v in settings.items() if v is not None},
        )  # fmt: skip
    made = sheet(results, *(to_pil(p) for p in pictures))
    write_picture(output, read_picture(made).pixels, force=force)
    click.echo(json.dumps([r.to_dict() for r in results], indent=1) if as_json else "\n".join(table(results)))
    return results


@main.command()
@_compared
@click.option("-s", "--strength", type=float, default=0.7, show_default=True, help="Of every transform.")
def compare(strength, **arguments):
    """Restyle CONTENT with STYLE by every transform: a sheet of the pictures, and a table.

    The table has seconds, style distance (1 is the content, 0 the style, by the model's own encoder) and content SSIM.
    """
    _run_comparison(strengths=(strength,), **arguments)


@main.command()
@_compared
@click.option(
    "--strengths",
    callback=_list_of(float, "0,0.5,1"),
    default="0.25,0.5,0.75,1",
    show_default=True,
    help="Columns of the sheet.",
)
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), help="Also draw style distance over content SSIM here."
)
def sweep(strengths, plot_file, force, **arguments):
    """Restyle CONTENT with STYLE over strength and transform: a sheet of the pictures, a table, and a plot."""
    from .image import check_target, read_picture, write_picture

    if plot_file is not None:
        check_target(plot_file, force)
    results = _run_comparison(strengths=strengths, force=force, **arguments)
    if plot_file is not None:
        from .compare import plot

        write_picture(plot_file, read_picture(plot(results)).pixels, force=force)


@main.command()
@click.option("--size", type=click.IntRange(16, 8192), default=512, show_default=True, help="Pixels a side.")
@PRESET
@click.option("--profile", "profiled", is_flag=True, help="Where the time goes, by stage, beside the machine's floor.")
@click.option("--runs", type=click.IntRange(1, 1000), default=5, show_default=True, help="Medians are of so many.")
@MODEL
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@DEVICE
@JSON
def bench(size, preset, profiled, runs, model, dtype, device, as_json):
    """Time a restyling on this machine, on a drawn picture."""
    import json
    from dataclasses import asdict

    import torch

    from .art import draw_content, draw_styles
    from .engine import Stylizer
    from .image import as_batch
    from .profile import measure, profile, table

    stylizer = Stylizer(model, device=device, dtype=getattr(torch, dtype))
    content = as_batch(draw_content(size, size)).to(stylizer.device)
    style = as_batch(next(iter(draw_styles(size).values()))).to(stylizer.device)
    if profiled:
        with torch.inference_mode():
            moments = stylizer.style(style)
        rows, whole = profile(stylizer, content, moments, runs=runs, preset=preset)
        found, lines = {"call": whole, "rows": [asdict(r) for r in rows]}, table(rows, whole)
    else:
        found = measure(stylizer, content, style, runs=runs, preset=preset)
        what = {"style": "moments of a style", "restyle": "restyling", "reconstruct": "the same without a transform"}
        lines = [f"{what[k]:<30} {1e3 * v:9.2f} ms" for k, v in found.items()]
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))


@main.command()
def doctor() -> None:
    """Say which versions, devices and backends are here, and why others cannot run."""
    from .doctor import diagnose

    click.echo("\n".join(diagnose()))


@main.command()
def build() -> None:
    """Compile the C++ operations, if the installation could not, and on a machine with nvcc and a GPU the CUDA ones.

    It needs g++ and torch's headers.
    """
    from . import _build

    skipped = _build.why_skip_cuda()
    try:
        click.echo(str(_build.build(_build.cached())))
        if skipped is None:
            click.echo(str(_build.build_cuda(_build.cached_cuda())))
        else:
            click.echo(f"The CUDA library is not built: {skipped}.", err=True)
    except _build.CannotBuild as err:
        raise FastiftError(f"fastift build: {err}") from err


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
@FORCE
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
