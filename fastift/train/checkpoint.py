"""Checkpoints: everything a run needs to go on, in one safetensors file that is replaced whole."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights import read_tensors, write_tensors

__all__ = ["save_checkpoint", "load_checkpoint"]


def save_checkpoint(
    file: Path, model: nn.Module, optimiser: torch.optim.Optimizer, phase: str, step: int, notes: dict
) -> None:
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
    write_tensors(file, tensors, {"phase": phase, "step": str(step), "notes": json.dumps(notes)})


def load_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]], str, int, dict]:
    """Model state, optimiser state, phase, step, notes."""
    tensors, header = read_tensors(file)
    try:
        phase, step, notes = header["phase"], int(header["step"]), json.loads(header["notes"])
    except (KeyError, ValueError) as err:
        raise WeightsError(f"fastift train: {file} is not a checkpoint of fastift ({err})") from err
    optimiser: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            optimiser.setdefault(int(index), {})[key] = tensor
    model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    return model, optimiser, phase, step, notes
