"""The run: phases, steps, checkpoints, log. On the CPU, on a GPU, or on several under torchrun."""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ..autoencoder import Autoencoder, AutoencoderConfig
from ..detail import detail
from ..encoder import scale_input
from ..engine import find_device
from ..errors import FastiftError, InvalidInputError, OutputError
from ..weights import load_encoder, save_autoencoder
from .checkpoint import load_checkpoint, save_checkpoint
from .curve import draw_curve
from .data import Crops, Pictures, find_pictures
from .objective import DistilEncoder, Teacher, TrainDecoders, TrainSinglePass
from .recipe import Recipe

__all__ = ["train", "held_out_psnr"]

Report = Callable[[dict], None]

COLOUR_GAIN = 3.0
"""Weight of the colours that relu1_1 carries: IFT then brings them to the style first, and edges suffer less for them."""

APART = 0.1
"""Share of the single-pass steps in which its blocks learn apart, tap to tap."""

FIRST_CROP = {"encoder": 0, "deepest": 5_000_000, "decoders": 10_000_000, "single pass": 20_000_000}
"""Phases draw different crops."""


def train(
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    recipe: Recipe,
    config: AutoencoderConfig,
    teacher: str | os.PathLike | None = None,
    encoder: str | os.PathLike | None = None,
    runs: str | os.PathLike = "runs",
    device: str | torch.device | None = None,
    precision: str = "float32",
    checkpoint_minutes: float = 5.0,
    resume: bool = True,
    report: Report = lambda entry: None,
) -> Path:
    """Train an autoencoder on a folder of images and pack it as safetensors to `out`.

    teacher: an encoder file whose taps a new encoder learns (phase "encoder"); encoder: a file whose encoder is kept. One
    of them is needed. Checkpoints and the log (``log.jsonl``: a line of losses now and then, PSNR at each checkpoint) go to
    the folder `runs`; a run there is resumed, step for step, unless resume is False. precision is "float32", "bfloat16" or
    "float16" (autocast; float16 with loss scaling, on CUDA). Under torchrun each process
    takes its own crops, and gradients are averaged.
    """
    if (teacher is None) == (encoder is None):
        raise InvalidInputError(
            "fastift train: expected either a teacher to distil from or an encoder to keep, got both or neither"
        )
    if precision not in ("float32", "bfloat16", "float16"):
        raise InvalidInputError(f"fastift train: precision must be float32, bfloat16 or float16, got {precision!r}")
    out, runs = Path(out), Path(runs)
    if not out.parent.is_dir():
        raise OutputError(f"fastift train: cannot write {out}: its folder does not exist")
    files = find_pictures(images)
    held_out = files[:: recipe.hold_out] if len(files) >= recipe.hold_out > 0 else []
    learning = [f for f in files if f not in set(held_out)]
    with Processes(device) as processes:
        torch.manual_seed(recipe.seed)
        if encoder is not None:
            kept = load_encoder(encoder)
            config = replace(config, widths=kept.plan.widths, encoder_depths=kept.plan.depths)
            recipe = replace(recipe, encoder_steps=0)
        model = Autoencoder(config)
        initialise(model, own_encoder=encoder is None)
        if encoder is not None:
            model.encoder.load_state_dict(kept.state_dict())
        try:
            runs.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(f"fastift train: cannot make the folder {runs} ({err})") from err
        run = _Run(
            model=model.to(processes.device, memory_format=torch.channels_last),
            teacher=load_encoder(teacher) if teacher is not None else None,
            recipe=recipe,
            crops=Crops(Pictures(learning, recipe.resize, recipe.crop), recipe.batch, recipe.seed, processes.rank),
            held_out=Pictures(held_out, recipe.resize, recipe.crop),
            processes=processes,
            precision=precision,
            folder=runs,
            checkpoint_seconds=60 * checkpoint_minutes,
            report=report,
        )
        run.go(resume)
        if processes.rank == 0:
            notes = {
                "recipe": json.dumps(recipe.to_dict()),
                "psnr": json.dumps(run.psnr),
                "pictures": str(len(learning)),
            }
            save_autoencoder(model, out, notes=notes)
    return out


class Processes:
    """The ranks of torchrun, or this process alone."""

    def __init__(self, device: str | torch.device | None) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = find_device(device)
        if self.device.type == "cuda" and self.world > 1:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def __enter__(self) -> Processes:
        if self.world > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        return self

    def __exit__(self, *exc: object) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    def wrap(self, module: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(module) if self.world > 1 else module


class _Run:
    def __init__(self, **parts) -> None:
        self.__dict__.update(parts)
        self.psnr: dict[str, float] = {}
        self.autocast = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]

    def go(self, resume: bool) -> None:
        file = self.folder / "checkpoint.safetensors"
        at, start, moments = "encoder", 0, {}
        if resume and file.is_file():
            state, moments, at, start, notes = load_checkpoint(file)
            if notes.get("recipe") != json.loads(json.dumps(self.recipe.to_dict())):
                raise InvalidInputError(
                    f"fastift train: {file} comes from other settings; expected the same, another --runs folder, or --restart"
                )
            self.model.load_state_dict(state)
        phases = {
            "encoder": self.phase_encoder,
            "deepest": self.phase_deepest,
            "decoders": self.phase_decoders,
            "single pass": self.phase_single_pass,
        }
        if not self.recipe.encoder_steps:
            del phases["encoder"], phases["deepest"]
        if self.model.single_pass is None:
            del phases["single pass"]
        names = list(phases)
        for name in names[names.index(at) if at in names else 0 :]:
            phases[name](start, moments)
            start, moments = 0, {}
        self.crops.close()

    def phase_encoder(self, start: int, moments: dict) -> None:
        self.distil(
            "encoder", 1, self.recipe.encoder_steps, self.recipe.encoder_lr, self.recipe.forcing, start, moments
        )

    def phase_deepest(self, start: int, moments: dict) -> None:
        deepest = self.model.levels
        self.distil("deepest", deepest, self.recipe.deepest_steps, self.recipe.encoder_lr / 2, 0.0, start, moments)
        self.normalise_taps([len(a) for a in self.calibrated.alive], self.samples)

    @functools.cached_property
    def samples(self) -> list[torch.Tensor]:
        """Pictures to measure channels on, the same on every rank."""
        crops = Crops(self.crops.pictures, 16, seed=1_000_003)
        return [self.to_device(crops.make(i).float() / 255) for i in range(12)]

    @functools.cached_property
    def calibrated(self) -> Teacher:
        teacher = Teacher(self.teacher).to(self.processes.device, memory_format=torch.channels_last)
        teacher.calibrate(self.samples)
        for n, alive in enumerate(teacher.alive):
            if len(alive) > self.model.config.widths[n]:
                raise InvalidInputError(
                    f"fastift train: relu{n + 1}_1 of the teacher has {len(alive)} live channels; "
                    f"expected at most the {self.model.config.widths[n]} of the encoder to be trained"
                )
        return teacher

    def distil(self, phase: str, first: int, steps: int, lr: float, forcing: float, start: int, moments: dict) -> None:
        """Learn the encoder's stages that lead to tap `first` and beyond, and the decoders from there."""
        if not steps:
            return
        encoder, teacher = self.model.encoder, self.calibrated
        learning = encoder.modules_after(first - 1)
        for name, module in encoder.named_children():  # before wrapping, which looks at what needs gradients
            module.requires_grad_(name in learning)
        objective = self.processes.wrap(DistilEncoder(self.model, teacher.spread, first))
        parameters = [p for p in objective.parameters() if p.requires_grad]

        def losses(step: int, images: torch.Tensor) -> tuple:
            return objective(images, teacher(images), step < forcing * steps)

        self.loop(phase, losses, parameters, lr, steps, start, moments)

    @torch.no_grad()
    def normalise_taps(self, known: list[int], batches: list[torch.Tensor]) -> None:
        """Scale each tap to mean activation 1, and the decoders with it: no picture changes.

        The free channels are first brought, one by one, to the root mean square of those that imitate the teacher, so that no
        channel rules the Gram by accident of its scale; the colours at relu1_1 then to COLOUR_GAIN times that.
        """
        for n, k in enumerate(known, start=1):
            taps = [self.model.encoder(images, n)[-1].float() for images in batches]
            rms = torch.stack([t.square().mean((0, 2, 3)) for t in taps]).mean(0).sqrt()
            mean = torch.stack([t.mean((0, 2, 3)) for t in taps]).mean(0)
            factor = torch.ones_like(rms)
            factor[k:] = rms[:k].mean() / rms[k:].clamp_min(0.02 * rms.max())  # one that hardly fires is not blown up
            if n == 1:
                factor[-3:] *= COLOUR_GAIN
            factor = factor / (factor * mean).mean()
            self.model.encoder.rescale(n, factor)
            scale_input(self.model.decoders[str(n)].get_submodule(f"conv{n}_1"), factor)

    def phase_decoders(self, start: int, moments: dict) -> None:
        recipe = self.recipe
        self.model.encoder.requires_grad_(False)
        epoch = self.steps_of_an_epoch()
        steps_of = {n: recipe.decoder_steps or recipe.epochs[n - 1] * epoch for n in self.model.config.cascade}
        steps = max(steps_of.values())
        # levels that finish early leave the objective: one objective for each set of levels still learning
        parameters = list(self.model.decoders.parameters())
        objectives: dict[tuple[int, ...], nn.Module] = {}

        def losses(step: int, images: torch.Tensor) -> tuple:
            levels = tuple(n for n, s in steps_of.items() if step < s)
            if levels not in objectives:
                inner = TrainDecoders(
                    self.model,
                    levels,
                    feature_weight=recipe.feature_weight,
                    restyle=recipe.restyle,
                    balanced=recipe.balanced,
                )
                objectives[levels] = self.processes.wrap(inner)
            return objectives[levels](images, self.rng(step))

        self.loop("decoders", losses, parameters, recipe.decoder_lr, steps, start, moments)

    def phase_single_pass(self, start: int, moments: dict) -> None:
        recipe = self.recipe
        self.model.encoder.requires_grad_(False)
        steps = recipe.single_pass_steps or recipe.epochs[-1] * self.steps_of_an_epoch()
        if (
            "1" in self.model.decoders
        ):  # relu1_1 to the image is learned already, and every step on it would shake the picture
            last = self.model.single_pass.conv1_1
            last.load_state_dict(self.model.decoders["1"].conv1_1.state_dict())
            last.requires_grad_(False)
        inner = TrainSinglePass(
            self.model, feature_weight=recipe.feature_weight, restyle=recipe.restyle, balanced=recipe.balanced
        )
        objective = self.processes.wrap(inner)
        parameters = [p for p in self.model.single_pass.parameters() if p.requires_grad]

        def losses(step: int, images: torch.Tensor) -> tuple:
            return objective(images, self.rng(step), step < APART * steps)

        self.loop("single pass", losses, parameters, recipe.single_pass_lr, steps, start, moments)

    def rng(self, step: int) -> torch.Generator:
        """The strength of a step's restyling, the same when a run is resumed."""
        return torch.Generator().manual_seed(hash((self.recipe.seed, self.processes.rank, step)) % 2**31)

    def steps_of_an_epoch(self) -> int:
        return max(1, len(self.crops.pictures) // (self.recipe.batch * self.processes.world))

    def loop(
        self, phase: str, losses: Callable, parameters: list, lr: float, steps: int, start: int, moments: dict
    ) -> None:
        device = self.processes.device
        optimiser = torch.optim.Adam(parameters, lr=lr)
        if moments:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "float16")
        saved = time.monotonic()
        running: dict[str, float] = {}
        for step in range(start, steps):
            for group in optimiser.param_groups:
                group["lr"] = lr * (schedule(step / steps) if self.recipe.cosine else 1.0)
            images = self.to_device(self.crops(FIRST_CROP[phase] + step))
            with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
                total, terms = losses(step, images)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(total).backward()
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            scaler.step(optimiser)
            scaler.update()
            if self.processes.rank == 0 and (step % 20 == 0 or step == steps - 1):
                now = {name: float(value) for name, value in {"loss": total.detach(), **terms}.items()}
                if not math.isfinite(now["loss"]):
                    raise FastiftError(
                        f"fastift train: the loss became {now['loss']} at step {step} of phase {phase}; lower the learning rate"
                    )
                running = {k: 0.7 * running.get(k, v) + 0.3 * v for k, v in now.items()}
                self.log({"phase": phase, "step": step, "steps": steps, **{k: round(v, 6) for k, v in running.items()}})
            if self.processes.rank == 0 and (time.monotonic() - saved > self.checkpoint_seconds or step == steps - 1):
                self.psnr = held_out_psnr(self.model, self.held_out, device)
                self.log({"phase": phase, "step": step, "steps": steps, "psnr": self.psnr})
                draw_curve(self.folder / "log.jsonl", self.folder / "loss.png")
                notes = {"recipe": self.recipe.to_dict()}
                save_checkpoint(self.folder / "checkpoint.safetensors", self.model, optimiser, phase, step + 1, notes)
                saved = time.monotonic()

    def log(self, entry: dict) -> None:
        with open(self.folder / "log.jsonl", "a") as f:
            f.write(json.dumps(entry) + "\n")
        self.report(entry)

    def to_device(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(self.processes.device, memory_format=torch.channels_last)


def schedule(progress: float) -> float:
    warm_up = 0.02
    if progress < warm_up:
        return 0.05 + 0.95 * progress / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def initialise(model: Autoencoder, own_encoder: bool = True) -> None:
    """He initialisation, near the identity where a width is kept; the input decorrelated; the colours carried through relu1_1.

    Without an encoder of its own, which carries them, decoders start at mid-grey.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # opponent colours, each of about unit variance on photographs: RGB itself is so correlated that conv1_1 would learn slowly
    conv0, conv1 = model.encoder.conv0, model.encoder.conv1_1
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    spread = torch.tensor([0.43, 0.10, 0.04])
    opponent = axes / axes.norm(dim=1, keepdim=True) / spread[:, None]
    shift = opponent @ torch.full((3,), -0.45)
    conv0.weight.data.copy_(opponent[:, :, None, None])
    conv0.bias.data.copy_(shift)
    # the last three channels of relu1_1 begin as red, green, blue, which no ReLU cuts: filters alone, inverted by one
    # convolution, stay below 42 dB however long they learn
    carried = own_encoder and conv1.out_channels > 3
    if carried:
        colours = torch.linalg.inv(opponent)
        conv1.weight.data[-3:] = 0
        conv1.weight.data[-3:, :, 1, 1] = colours
        conv1.bias.data[-3:] = -colours @ shift
    # convolutions that keep their width begin near the identity, which no ReLU behind a ReLU cuts: what a stage has received it
    # passes on from the first step, and learns what to make of it
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels == module.out_channels:
            module.weight.data.mul_(0.25)
            nn.init.dirac_(same := torch.empty_like(module.weight))
            module.weight.data.add_(same)
    for decoder in (*model.decoders.values(), model.single_pass):
        if decoder is None:
            continue
        last = decoder.conv1_1
        last.weight.data.mul_(0.2)
        last.bias.data.fill_(0.5)
        if carried and (decoder.level == 1 or decoder is model.single_pass):  # they read relu1_1 itself
            last.weight.data.zero_()
            last.weight.data[:, -3:, 1, 1] = torch.eye(3)
            last.bias.data.zero_()
        for name, module in decoder.named_children():
            if name.startswith("up"):  # begin as nearest-neighbour upsampling, free of checkerboards
                eye = torch.eye(module.in_channels).repeat_interleave(4, 0)[:, :, None, None]
                module.weight.data.copy_(eye)
    for name, module in model.encoder.named_children():
        if name.startswith("pool"):  # begin with max-pooling foremost
            module.weight.data.mul_(0.3)


@torch.no_grad()
def held_out_psnr(model: Autoencoder, pictures: Pictures, device: torch.device, most: int = 16) -> dict[str, float]:
    """Mean PSNR in dB of reconstruction from each level, and of the single pass with and without skips."""
    sums: dict[str, float] = {}
    count = min(most, len(pictures))
    for i in range(count):
        picture = pictures[i][None].to(device).float() / 255
        h, w = (s - s % model.multiple for s in picture.shape[2:])
        x = picture[:, :, :h, :w].contiguous(memory_format=torch.channels_last)
        seen = model.encoder(x)
        out = {f"relu{n}_1": decoder(seen[int(n) - 1]) for n, decoder in model.decoders.items()}
        if model.single_pass is not None:
            out["single"] = model.single_pass(seen[-1])
            out["single with skips"] = model.single_pass(seen[-1], details=[detail(t) for t in seen[:-1]])
        for name, y in out.items():
            mse = float((y.clamp(0, 1) - x).square().mean())
            sums[name] = sums.get(name, 0.0) - 10 * math.log10(max(mse, 1e-12))
    return {name: round(s / count, 3) for name, s in sums.items()}
