"""The state of a training run, and its checkpoints.

A checkpoint is a folder ``checkpoints/step-NNNNNNN/``: tensors as safetensors, the rest as JSON, renamed into place
when it is whole. A run that goes on from one is, on a CPU, bit for bit the run that was never interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from refsr_bench.errors import IntegrityError, RefsrError
from refsr_bench.models.c2matching.config import CHECKPOINTS, RunConfig, list_checkpoints
from refsr_bench.models.weights import load_into


@dataclass
class State:
    """All that changes while a stage trains."""

    nets: dict[str, nn.Module]
    optimisers: dict[str, Optimizer]
    averaged: str | None = None
    """Name of the network whose running average is kept, if one is."""
    average: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0

    def result(self, name: str) -> dict[str, Tensor]:
        """The weights of a network that are validated and used: its average where one is kept."""
        return self.average if name == self.averaged else self.nets[name].state_dict()


@contextmanager
def using_results(state: State) -> Iterator[None]:
    """Give the networks, for a while, the weights that are used, and leave training mode."""
    held = {}
    if state.averaged is not None:
        net = state.nets[state.averaged]
        held = {key: value.clone() for key, value in net.state_dict().items()}
        net.load_state_dict(state.average)
    training = {name: net.training for name, net in state.nets.items()}
    for net in state.nets.values():
        net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if state.averaged is not None:
            state.nets[state.averaged].load_state_dict(held)
        for name, net in state.nets.items():
            net.train(training[name])


def start_average(state: State, name: str) -> None:
    """Begin the running average of a network at its present weights."""
    state.averaged = name
    state.average = {key: value.clone() for key, value in state.nets[name].state_dict().items()}


@torch.no_grad()
def update_average(state: State, decay: float) -> None:
    """Move the average towards the present weights, faster in the first steps."""
    if state.averaged is None:
        return
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for key, value in state.nets[state.averaged].state_dict().items():
        kept = state.average[key]
        if kept.is_floating_point():
            kept.mul_(decay).add_(value, alpha=1 - decay)
        else:
            kept.copy_(value)


def save_checkpoint(run_dir: Path, state: State, config: RunConfig) -> Path:
    """Write the state into a folder of its own and rename it into place; the oldest beyond ``keep`` are removed.

    RefsrError where the disk is full: what is there stays whole.
    """
    folder = run_dir / CHECKPOINTS / f"step-{state.step:07d}"
    if folder.is_dir():
        return folder
    temporary = folder.with_suffix(".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, net in state.nets.items():
            save_tensors(temporary, name, net.state_dict(), config.shard_mb)
        if state.averaged is not None:
            save_tensors(temporary, "average", state.average, config.shard_mb)
        for name, optimiser in state.optimisers.items():
            save_tensors(
                temporary, f"optimiser-{name}", _optimiser_tensors(state.nets[name], optimiser), config.shard_mb
            )
        text = json.dumps({"step": state.step, "averaged": state.averaged})
        (temporary / "state.json").write_text(text, "utf-8")
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RefsrError(
            f"{folder}: the checkpoint could not be written: {error.strerror or error}",
            "earlier checkpoints are whole; make room and go on with --resume",
        ) from error
    for old in list_checkpoints(run_dir)[: -config.keep]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(folder: Path, state: State) -> None:
    """Bring a freshly built state to what a checkpoint holds; IntegrityError if it is of other networks."""
    described = json.loads((folder / "state.json").read_text("utf-8"))
    for name, net in state.nets.items():
        load_into(net, load_tensors(folder, name), str(folder))
    if state.averaged != described["averaged"]:
        raise IntegrityError(f"{folder} keeps an average of {described['averaged']}, the run of {state.averaged}")
    if state.averaged is not None:
        for key, value in load_tensors(folder, "average").items():
            state.average[key].copy_(value)
    for name, optimiser in state.optimisers.items():
        _restore_optimiser(state.nets[name], optimiser, load_tensors(folder, f"optimiser-{name}"))
    state.step = described["step"]


def save_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor], shard_mb: float = 0.0) -> None:
    """Write ``name.safetensors``, or ``name-1-of-n.safetensors`` … where one file would exceed ``shard_mb``."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        value = value.detach().to("cpu").contiguous()
        if shard_mb and shards[-1] and size + value.nbytes > shard_mb * 1_000_000:
            shards.append({})
            size = 0
        shards[-1][key] = value
        size += value.nbytes
    for number, shard in enumerate(shards, start=1):
        part = f"-{number}-of-{len(shards)}" if len(shards) > 1 else ""
        safetensors.torch.save_file(shard, folder / f"{name}{part}.safetensors")


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read what `save_tensors` wrote; IntegrityError if a part is missing or damaged."""
    paths = sorted(folder.glob(f"{name}.safetensors")) or sorted(folder.glob(f"{name}-*-of-*.safetensors"))
    tensors: dict[str, Tensor] = {}
    try:
        if not paths or (len(paths) > 1 and len(paths) != int(paths[0].stem.rpartition("-")[2])):
            raise FileNotFoundError("a part of it is missing")
        for path in paths:
            tensors.update(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise IntegrityError(f"{folder / name} cannot be read: {error}", "remove this checkpoint") from error
    return tensors


def _optimiser_tensors(net: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": value
        for name, parameter in net.named_parameters()
        for kind, value in optimiser.state.get(parameter, {}).items()
    }


def _restore_optimiser(net: nn.Module, optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in net.named_parameters():
        if f"{name}.step" not in tensors:
            continue
        moments = {kind: torch.zeros_like(parameter) for kind in ("exp_avg", "exp_avg_sq")}
        for kind, moment in moments.items():
            moment.copy_(tensors[f"{name}.{kind}"])
        optimiser.state[parameter] = {"step": tensors[f"{name}.step"].clone(), **moments}
