"""Weight files: safetensors in and out, the embedded "slim" model, and the published VGG-19 layouts.

Nothing here unpickles. A .pth is converted once, by `convert_pickle`, which loads tensors only (``weights_only``).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .autoencoder import Autoencoder, AutoencoderConfig
from .decoder import Decoder
from .encoder import Encoder, Plan
from .errors import OutputError, WeightsError

__all__ = [
    "load_autoencoder",
    "save_autoencoder",
    "load_encoder",
    "load_decoder",
    "load_folder",
    "convert_pickle",
    "read_tensors",
    "write_tensors",
]

FORMAT = "fastift-autoencoder-1"
MAX_TENSORS = 10_000
LIST_OF_LAYOUTS = "torchvision vgg19, the normalised VGG-19 of AdaIN, or convN_K names"


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata. Refuses other formats, damage and non-finite values."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights: {path} is not a file; expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as f:
            names = list(f.keys())
            if len(names) > MAX_TENSORS:
                raise WeightsError(f"weights: {path} holds {len(names)} tensors; expected at most {MAX_TENSORS}")
            tensors = {name: f.get_tensor(name) for name in names}
            metadata = dict(f.metadata() or {})
    except (SafetensorError, OSError, ValueError) as err:
        hint = (
            "; a .pth or .pt file must be converted with `fastift convert`"
            if path.suffix in (".pth", ".pt", ".bin")
            else ""
        )
        raise WeightsError(f"weights: {path} is not a readable safetensors file ({err}){hint}") from err
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise WeightsError(f"weights: tensor {name} of {path} holds NaN or infinity; expected finite numbers")
    return tensors, metadata


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all: to a temporary file beside it, then renamed."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"weights: cannot write {path}: its folder does not exist")
    handle, temporary = -1, ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata=dict(metadata or {})
        )
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as err:
        raise OutputError(f"weights: cannot write {path} ({err})") from err
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def save_autoencoder(
    model: Autoencoder,
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float16,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Pack an autoencoder: its geometry in the header, its weights as dtype."""
    tensors = {k: v.to(dtype) for k, v in model.state_dict().items()}
    header = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), **(notes or {})}
    write_tensors(path, tensors, header)


def load_autoencoder(name_or_path: str | os.PathLike = "slim") -> Autoencoder:
    """The embedded model ("slim"), a file written by `save_autoencoder`, or a folder of VGG-layout files (see `load_folder`).

    Returns float32 weights in evaluation mode, without gradients.
    """
    if str(name_or_path) == "slim":
        with resources.as_file(resources.files("fastift") / "models" / "slim.safetensors") as path:
            return load_autoencoder(path)
    path = Path(name_or_path)
    if path.is_dir():
        return load_folder(path)
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"weights: {path} is not a fastift autoencoder (its header says {metadata.get('format')!r}); expected {FORMAT!r}"
        )
    try:
        config = AutoencoderConfig(**json.loads(metadata["config"]))
        model = Autoencoder(config)
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise WeightsError(f"weights: the header of {path} does not describe an autoencoder ({err})") from err
    _fill(model, tensors, str(path))
    return model.eval().requires_grad_(False)


def load_encoder(path: str | os.PathLike) -> Encoder:
    """A VGG-shaped encoder from a safetensors file, in any of three published layouts, told apart by their names.

    - torchvision's ``vgg19`` state dict (``features.0.weight`` ..): input normalisation by ImageNet mean and deviation is added.
    - the normalised VGG-19 of AdaIN and WCT as a flat ``nn.Sequential`` (``0.weight`` 1x1, ``2.weight`` = conv1_1, ``5`` ..).
    - named convolutions (``conv0.weight`` 1x1 and ``conv1_1.weight`` ..), any widths: ours and Collaborative Distillation's.
    Layers past conv4_1 are ignored.
    """
    tensors, _ = read_tensors(path)
    named = _canonical(tensors, str(path), VGG_ENCODER_INDEX, first_is_conv0=True)
    stages: list[list[str]] = []
    for n in range(1, 5):
        names = []
        while f"conv{n}_{len(names) + 1}.weight" in named:
            names.append(f"conv{n}_{len(names) + 1}")
        if not names:
            break
        stages.append(names)
    if not stages:
        raise WeightsError(f"weights: {path} holds no VGG convolutions; expected {LIST_OF_LAYOUTS}")
    widths = tuple(named[f"{names[0]}.weight"].shape[0] for names in stages)
    # the deepest tap is the first ReLU of the deepest stage
    depths = (*(len(names) for names in stages[:-1]), 1)
    encoder = Encoder(Plan(widths, depths))
    keep = {
        f"{names[k]}.{kind}"
        for names, depth in zip(stages, depths, strict=True)
        for k in range(depth)
        for kind in KINDS
    }
    keep |= {"conv0.weight", "conv0.bias"}
    _fill(encoder, {k: v for k, v in named.items() if k in keep}, str(path))
    return encoder.eval().requires_grad_(False)


def load_decoder(path: str | os.PathLike, *, upsampling: str = "nearest", final_relu: bool | None = None) -> Decoder:
    """A decoder from a safetensors file: AdaIN's flat ``nn.Sequential`` (``1.weight`` is conv4_1 ..), or named convolutions.

    Both publish nearest-neighbour upsampling. AdaIN's ends without a ReLU, Collaborative Distillation's with one:
    final_relu None means by layout.
    """
    tensors, _ = read_tensors(path)
    flat = "1.weight" in tensors
    named = _canonical(tensors, str(path), ADAIN_DECODER_INDEX, first_is_conv0=False)
    level = max((n for n in range(1, 5) if f"conv{n}_1.weight" in named), default=0)
    if level == 0:
        raise WeightsError(f"weights: {path} holds no decoder convolutions; expected AdaIN's decoder or convN_K names")
    widths = [named[f"conv{n}_1.weight"].shape[1] for n in range(1, level + 1)]
    depths = [sum(f"conv{n}_{k}.weight" in named for k in range(1, 9)) for n in range(1, level)] + [1]
    decoder = Decoder(
        Plan(tuple(widths), tuple(depths)),
        level,
        upsampling=upsampling,
        final_relu=(not flat) if final_relu is None else final_relu,
    )
    wanted = set(decoder.state_dict())
    _fill(decoder, {k: v for k, v in named.items() if k in wanted}, str(path))
    return decoder.eval().requires_grad_(False)


def load_folder(folder: str | os.PathLike) -> Autoencoder:
    """An autoencoder from a folder of files ``encoder_relu4_1.safetensors`` and ``decoder_reluN_1.safetensors``, N = 1..4.

    Decoders whose width at their level is not the encoder's belong to another encoder and are left out.
    """
    folder = Path(folder)
    encoder = load_encoder(folder / "encoder_relu4_1.safetensors")
    decoders = {}
    for n in range(1, 5):
        file = folder / f"decoder_relu{n}_1.safetensors"
        if file.is_file():
            decoder = load_decoder(file)
            if decoder.plan.widths == encoder.plan.widths[:n]:
                decoders[n] = decoder
    if not decoders:
        raise WeightsError(
            f"weights: {folder} holds no decoder_reluN_1.safetensors that fits its encoder_relu4_1.safetensors"
        )
    any_decoder = decoders[max(decoders)]
    model = Autoencoder(
        AutoencoderConfig(
            widths=encoder.plan.widths,
            encoder_depths=encoder.plan.depths,
            decoder_depths=any_decoder.plan.depths + encoder.plan.depths[len(any_decoder.plan.depths) :],
            cascade=tuple(decoders),
            single_pass=False,
            upsampling=any_decoder.upsampling,
            final_relu=any_decoder.final_relu,
        )
    )
    model.encoder.load_state_dict(encoder.state_dict())
    for n, decoder in decoders.items():
        model.decoders[str(n)].load_state_dict(decoder.state_dict())
    return model.eval().requires_grad_(False)


def convert_pickle(source: str | os.PathLike, target: str | os.PathLike) -> list[str]:
    """Convert a PyTorch .pth state dict to safetensors; returns the names. Only tensors are unpickled (``weights_only=True``)."""
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as err:
        raise WeightsError(f"weights: {source} does not exist; expected a PyTorch .pth file") from err
    except Exception as err:  # the unpickler raises many types; none of them should reach a user as a trace
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise WeightsError(f"weights: {source} is not a .pth file that holds only tensors ({reason})") from err
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"weights: {source} does not hold a state dict; expected names mapped to tensors")
    write_tensors(target, {k.removeprefix("module."): v.clone() for k, v in loaded.items()}, {"format": "pt"})
    return sorted(loaded)


KINDS = ("weight", "bias")

# position of each convolution in the published nn.Sequential models
VGG_ENCODER_INDEX = {
    "normalised": {
        0: "conv0", 2: "conv1_1", 5: "conv1_2", 9: "conv2_1", 12: "conv2_2", 16: "conv3_1",
        19: "conv3_2", 22: "conv3_3", 25: "conv3_4", 29: "conv4_1",
    },
    "torchvision": {
        0: "conv1_1", 2: "conv1_2", 5: "conv2_1", 7: "conv2_2", 10: "conv3_1",
        12: "conv3_2", 14: "conv3_3", 16: "conv3_4", 19: "conv4_1",
    },
}  # fmt: skip
ADAIN_DECODER_INDEX = {
    "normalised": {
        1: "conv4_1", 5: "conv3_4", 8: "conv3_3", 11: "conv3_2", 14: "conv3_1",
        18: "conv2_2", 21: "conv2_1", 25: "conv1_2", 28: "conv1_1",
    },
}  # fmt: skip

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _canonical(
    tensors: dict[str, Tensor], path: str, index: dict[str, dict[int, str]], *, first_is_conv0: bool
) -> dict[str, Tensor]:
    """Rename the tensors of a published layout to convN_K."""
    if any(k.startswith("conv") for k in tensors):
        named = {k: v for k, v in tensors.items() if not k.startswith("conv") or ".aux" not in k}
    else:
        torchvision = "features.0.weight" in tensors
        table = index.get("torchvision" if torchvision else "normalised", {})
        prefix = "features." if torchvision else ""
        named = {
            f"{conv}.{kind}": tensors[f"{prefix}{i}.{kind}"]
            for i, conv in table.items()
            for kind in KINDS
            if f"{prefix}{i}.{kind}" in tensors
        }
        if not named:
            raise WeightsError(f"weights: {path} has none of the known layouts; expected {LIST_OF_LAYOUTS}")
        if torchvision:
            std = torch.tensor(IMAGENET_STD)
            named["conv0.weight"] = torch.diag(1 / std)[:, :, None, None]
            named["conv0.bias"] = -torch.tensor(IMAGENET_MEAN) / std
    if first_is_conv0 and "conv0.weight" not in named:
        raise WeightsError(f"weights: {path} has no conv0 (1x1 input normalisation); expected {LIST_OF_LAYOUTS}")
    return named


def _fill(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: str) -> None:
    """Load tensors into a module; every name and shape must fit."""
    wanted = module.state_dict()
    missing, foreign = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or foreign:
        raise WeightsError(
            f"weights: {path} does not fit the network: "
            f"missing {missing[:3] or 'nothing'}, not expected {foreign[:3] or 'nothing'}"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise WeightsError(
                f"weights: tensor {name} of {path} must have shape {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}"
            )
    module.load_state_dict({k: v.float() for k, v in tensors.items()})
