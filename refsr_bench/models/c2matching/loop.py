"""What the training stages share: processes, one optimiser step, the journal of a run.

A run folder holds ``run.json`` (everything needed to repeat it), ``log.jsonl``, ``tensorboard/`` and `checkpoints`.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from refsr_bench.errors import RefsrError
from refsr_bench.models.c2matching.checkpoints import State, save_checkpoint, update_average
from refsr_bench.models.c2matching.config import RunConfig, list_checkpoints
from refsr_bench.models.ranks import process_group


class TrainingStopped(RefsrError):
    """A loss or gradient was not finite; the last good state is saved."""


# --- processes -----------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """This process among those that train together, and where it computes."""

    device: torch.device
    rank: int = 0
    world: int = 1


@contextmanager
def joined(device: torch.device) -> Iterator[Place]:
    """Join the processes that ``torchrun`` started, over nccl on GPUs and gloo on CPUs; alone without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Place(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    with process_group(str(device)):
        yield Place(device, torch.distributed.get_rank(), world)


def average(values: Tensor, place: Place) -> Tensor:
    """Mean of a tensor over all processes."""
    if place.world > 1:
        torch.distributed.all_reduce(values)
    return values / place.world


def wait_for_all(place: Place) -> None:
    """Go on only when every process is here."""
    if place.world > 1:
        torch.distributed.barrier()


# --- one step ------------------------------------------------------------------------------------------------------


def apply_gradients(
    state: State, name: str, weight: Tensor | float, config: RunConfig, place: Place, *, learning_rate: float
) -> float:
    """Average the gradients of all processes, limit their norm and move the network; returns the norm.

    The gradients are those of *sums* over ``weight`` pairs, so that processes and passes of unequal weight count
    alike. ``learning_rate`` scales every group by its share of the configured one. Nothing is moved where no pair was
    usable or the norm, which is returned, is not finite.
    """
    parameters = [p for p in state.nets[name].parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [gradients[0].new_tensor([float(weight)])])
    if place.world > 1:
        torch.distributed.all_reduce(flat)
    if flat[-1] == 0:
        return 0.0
    flat = flat[:-1] / flat[-1]
    norm = float(torch.linalg.vector_norm(flat))
    if not math.isfinite(norm):
        return norm
    if config.clip_norm and norm > config.clip_norm:
        flat *= config.clip_norm / norm
    for parameter, gradient in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))
    optimiser = state.optimisers[name]
    for group in optimiser.param_groups:
        # A group's first rate stays known: the released offset layers learn more slowly than the rest.
        first = group.setdefault("first_lr", group["lr"])
        group["lr"] = first * learning_rate / config.learning_rate
    optimiser.step()
    return norm


def rate_at(step: int, config: RunConfig, schedule: str, decay_at: tuple[int, ...] = ()) -> float:
    """Learning rate of the step after ``step`` steps.

    ``constant``; ``steps``: a tenth after each of ``decay_at``; ``cosine``: to 0 at the end; ``cooldown``: constant,
    then linearly to 0 over the last fifth. All of them rise linearly over the first ``rise`` steps.
    """
    share = min(1.0, (step + 1) / config.rise) if config.rise else 1.0
    end = config.iterations
    if schedule == "steps":
        share *= 0.1 ** sum(step >= at for at in decay_at)
    elif schedule == "cosine":
        share *= (1 + math.cos(math.pi * step / end)) / 2
    elif schedule == "cooldown":
        share *= min(1.0, 5 * (end - step) / end)
    return config.learning_rate * share


# --- the journal ---------------------------------------------------------------------------------------------------

Progress = Callable[[int, int, Mapping[str, float]], None]
Validate = Callable[[State], Mapping[str, float]]


@dataclass
class Journal:
    """Log, progress, validation, checkpoints and the end of a run, after every step."""

    run_dir: Path
    config: RunConfig
    place: Place
    state: State
    progress: Progress | None = None
    validate: Validate | None = None
    draw: Callable[[Any, State], None] | None = None
    """Puts pictures into TensorBoard, given its writer."""
    look_every: int = 0
    """Steps between two validations with pictures; 0: only at the end."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in each phase since the last line of the log."""
    stop_signal: int | None = None
    _writer: Any = None
    _since: float = field(default_factory=time.monotonic)
    _last_step: int = 0

    def __post_init__(self) -> None:
        """Count from where the run goes on."""
        self._last_step = self.state.step

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a part of the step."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def after_step(self, values: Mapping[str, float]) -> None:
        """Note a finished step; stop here if its numbers are not finite or a signal has come."""
        state, config = self.state, self.config
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            if self.place.rank == 0:
                self._save()
            wait_for_all(self.place)  # torchrun ends all processes as soon as one has failed
            kept = list_checkpoints(self.run_dir)[-1]
            raise TrainingStopped(
                f"{self.run_dir}: {', '.join(bad)} not finite in step {state.step + 1}; nothing was moved by it",
                f"the state before it is {kept}; lower the learning rate: --resume --set learning_rate=…",
            )
        state.step += 1
        update_average(state, config.ema)
        leader = self.place.rank == 0
        last = state.step >= config.iterations
        if leader and (state.step % config.log_every == 0 or last):
            self._log(values)
        if leader and self.progress is not None:
            self.progress(state.step, config.iterations, values)
        if self._agreed_stop():
            if leader:
                self._save()
            raise _Stopped
        if leader and (state.step % config.checkpoint_every == 0 or last):
            self._save()
        if leader and (last or (self.look_every and state.step % self.look_every == 0)):
            self._look()

    def _look(self) -> None:
        """Validate, and put pictures into TensorBoard."""
        if self.validate is not None:
            scores = self.validate(self.state)
            self._write({"step": self.state.step, **{f"validation_{name}": score for name, score in scores.items()}})
        writer = self._tensorboard()
        if self.draw is not None and writer is not None:
            self.draw(writer, self.state)
            writer.flush()

    def _save(self) -> Path:
        return save_checkpoint(self.run_dir, self.state, self.config)

    def _log(self, values: Mapping[str, float]) -> None:
        elapsed = time.monotonic() - self._since
        pairs = (self.state.step - self._last_step) * self.config.batch * self.config.accumulate
        shares = {f"share_{name}": round(spent / max(elapsed, 1e-9), 3) for name, spent in self.seconds.items()}
        self._write({"step": self.state.step, **values, "pairs_per_s": round(pairs / max(elapsed, 1e-9), 3), **shares})
        self.seconds.clear()
        self._since, self._last_step = time.monotonic(), self.state.step

    def _write(self, line: Mapping[str, float]) -> None:
        with (self.run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        writer = self._tensorboard()
        if writer is not None:
            for name, value in line.items():
                if name != "step":
                    writer.add_scalar(name, value, int(line["step"]))
            writer.flush()

    def _tensorboard(self) -> Any:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._writer = False
            else:
                self._writer = SummaryWriter(str(self.run_dir / "tensorboard"))
        return self._writer or None

    def _agreed_stop(self) -> bool:
        """All processes stop after the same step, whichever of them the signal reached."""
        if self.place.world == 1:
            return self.stop_signal is not None
        flag = torch.tensor([self.stop_signal or 0], device=self.place.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        if agreed := int(flag):  # one that came meanwhile is not in the flag: the next step will tell the others
            self.stop_signal = agreed
        return bool(agreed)


class _Stopped(BaseException):
    """A signal ends the run; its state is saved."""


@contextmanager
def noting_signals(journal: Journal) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C take effect after the step that is under way, when its state is saved.

    What they do then is up to the handlers that were there before; a second one does not wait. One that was ignored
    before, as Ctrl-C is in a job that a shell runs in the background, stays ignored.
    """

    def note(signum: int, frame: FrameType | None) -> None:
        if journal.stop_signal is not None:
            raise KeyboardInterrupt
        journal.stop_signal = signum

    heeded = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, note) for number in heeded}
    stopped = False
    try:
        yield
    except _Stopped:
        stopped = True
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if stopped and journal.stop_signal is not None:
        signal.raise_signal(journal.stop_signal)
