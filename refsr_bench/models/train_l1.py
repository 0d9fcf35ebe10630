"""One recipe for every model of the zoo: L1 between SR and HR, Adam, references made from photographs or given.

No perceptual and no adversarial loss, whatever the method's paper adds: models trained so differ in their networks
alone. Steps, checkpoints and the journal are C2-Matching's (`c2matching.loop`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from refsr_bench.disk import atomic_write_json
from refsr_bench.errors import ManualStepNeeded, UsageError, did_you_mean
from refsr_bench.models import zoo
from refsr_bench.models.c2matching.checkpoints import (
    State,
    load_checkpoint,
    save_tensors,
    start_average,
)
from refsr_bench.models.c2matching.config import L1Config, list_checkpoints
from refsr_bench.models.c2matching.loop import Journal, Place, apply_gradients, average, noting_signals, rate_at
from refsr_bench.models.c2matching.loop import Progress as OnStep
from refsr_bench.models.c2matching.roles import load_roles
from refsr_bench.models.c2matching.training_data import Examples, Source, as_input, check_sources, load_batches
from refsr_bench.models.method import (
    TRAINED,
    Method,
    Parts,
    find_method,
    load_borrowed,
    part_of,
    restore_tensor,
    run_single,
)
from refsr_bench.models.vgg import load_vgg19

Batch = Mapping[str, Tensor]

NETWORK = "network"


def train(
    run_dir: Path, config: L1Config, sources: Sequence[Source], place: Place, progress: OnStep | None = None
) -> Path:
    """Train until ``config.iterations``, from the last checkpoint if there is one; returns the weights' folder.

    UsageError: no such model, sizes it does not know, or pictures that cannot give the references asked for.
    ManualStepNeeded: the frozen networks that the method needs are not imported.
    """
    check_sources(config, sources)
    torch.manual_seed(config.seed)
    method, parts = build(config, place.device)
    state = State({NETWORK: parts.network}, {NETWORK: Adam(parts.network.parameters(), lr=config.learning_rate)})
    if config.ema:
        start_average(state, NETWORK)
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoints = list_checkpoints(run_dir)
    if checkpoints:
        load_checkpoint(checkpoints[-1], state)
    journal = Journal(run_dir, config, place, state, progress)
    batches = load_batches(Examples(config, sources), state.step, place.rank, place.world)
    train_network(config, batches, journal, method, parts)
    folder = run_dir / "weights"
    if place.rank == 0:
        write_weights(folder, config, method, state, f"{len(sources)} photographs, {config.iterations} steps of L1")
    return folder


def build(config: L1Config, device: torch.device) -> tuple[Method, Parts]:
    """The network of ``config.model``, ready to learn, and the frozen ones it borrows."""
    if config.model not in zoo.CARDS:
        raise UsageError(f"there is no model to train called {config.model!r}", did_you_mean(config.model, zoo.CARDS))
    method = find_method(config.model)
    try:
        network = method.network(**config.sizes).to(device)
    except TypeError as error:
        raise UsageError(f"{config.model} cannot be made with sizes {config.sizes}: {error}") from error
    parts, _ = load_borrowed(method, Parts(network, device), None, config.model)
    if method.start is not None:
        try:
            loaded = load_roles(("vgg19",), None)["vgg19"]
        except ManualStepNeeded as error:
            raise ManualStepNeeded(f"{config.model} begins with VGG-19 inside: {error.problem}", error.remedy) from None
        method.start(network, load_vgg19(loaded.state, loaded.source))
    return method, parts


def train_network(config: L1Config, batches: Iterator[Batch], journal: Journal, method: Method, parts: Parts) -> None:
    """The loop: forward, L1, backward, step; everything that lasts is in the journal's run folder."""
    state, place = journal.state, journal.place
    parts.network.train()
    with noting_signals(journal):
        while state.step < config.iterations:
            parts.network.zero_grad()
            rate = rate_at(state.step, config, config.generator_schedule.partition("-")[0], config.decay_at)
            loss, pairs = torch.zeros((), device=place.device), 0
            for _ in range(config.accumulate):
                with journal.phase("data"):
                    batch = next(batches)
                with journal.phase("forward"):
                    sr = restore_batch(method, parts, batch)
                    hr = as_input(batch["hr"], place.device)
                    l1 = F.l1_loss(sr, hr)
                with journal.phase("backward"):
                    torch.autograd.backward(len(hr) * l1)
                pairs += len(hr)
                loss += len(hr) * l1.detach()
            with journal.phase("step"):
                norm = apply_gradients(state, NETWORK, pairs, config, place, learning_rate=rate)
            mean = float(average(loss / pairs, place))
            journal.after_step({"l1": mean, "gradient_norm": norm, "learning_rate": rate})


def restore_batch(method: Method, parts: Parts, batch: Batch) -> Tensor:
    """SR pictures ``(B, 3, H, W)`` of a batch of uint8 pictures ``(B, h, w, 3)``.

    With references pair by pair, by the very function that restores: where to look is different for each.
    """
    if method.run is None:
        return run_single(method, parts.network, as_input(batch["lr"], parts.device))
    pairs = zip(batch["lr"].numpy(), batch["ref"].numpy(), strict=True)
    return torch.cat([restore_tensor(method, parts, lr, [ref]) for lr, ref in pairs])


def write_weights(folder: Path, config: L1Config, method: Method, state: State, trained_on: str) -> None:
    """Write the network for use (``--set weights=FOLDER``), a file a role, and what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    result = state.result(NETWORK)
    for role in method.roles:
        whole = part_of(state.nets[NETWORK], method, role) is state.nets[NETWORK]
        prefix = "" if whole else f"{role}."
        save_tensors(folder, role, {k.removeprefix(prefix): v for k, v in result.items() if k.startswith(prefix)})
    described = {"model": config.model, "sizes": config.sizes, "step": state.step, "trained_on": trained_on}
    atomic_write_json(folder / TRAINED, described)
