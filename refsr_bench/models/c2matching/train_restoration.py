"""Stage 3 of C2-Matching: the restoration network learns to use what the student matches (paper section 3.3).

L1 alone ("-rec"), or with the perceptual loss and the Wasserstein critic after a warm-up. As released the generator's
learning rate is constant, the offset layers have rates of their own, and the critic moves before the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from refsr_bench.models.c2matching.checkpoints import State
from refsr_bench.models.c2matching.config import RestorationConfig
from refsr_bench.models.c2matching.discriminator import Discriminator
from refsr_bench.models.c2matching.gathering import gather, synchronise_batch_norm
from refsr_bench.models.c2matching.loop import Journal, apply_gradients, average, noting_signals, rate_at
from refsr_bench.models.c2matching.losses import critic_loss, generator_loss, gradient_penalty, perceptual_loss
from refsr_bench.models.c2matching.matching import find_offsets
from refsr_bench.models.c2matching.networks import (
    autocast,
    build_encoder,
    channels_last,
    load_vgg,
    to_device,
)
from refsr_bench.models.c2matching.optimiser import make_generator_optimiser
from refsr_bench.models.c2matching.small import SmallRestoration, VggExtractor, match_cells
from refsr_bench.models.c2matching.training_data import Examples, load_batches
from refsr_bench.models.vgg import VGG19

Batch = Mapping[str, Tensor]


class Frozen(NamedTuple):
    """The networks a restoration run looks at and does not change."""

    extractor: nn.Module | None = None
    """Makes the descriptors that are matched; VGG-19 in the paper's ablation."""
    vgg: VGG19 | None = None
    """Reference features of the paper's network, unless it learns them."""
    perceptual: VGG19 | None = None


def restoration_state(config: RestorationConfig, net: nn.Module) -> State:
    """The networks that learn and their optimisers: Adam (0.9, 0.999), the released groups for the paper's network."""
    nets: dict[str, nn.Module] = {"restoration": net}
    rate = config.learning_rate
    if config.network != "small":
        optimisers: dict[str, torch.optim.Optimizer] = {"restoration": make_generator_optimiser(net, rate)}
        if config.reference_encoder == "learned":
            nets["encoder"] = channels_last(build_encoder(config))
            optimisers["encoder"] = Adam(nets["encoder"].parameters(), lr=rate)
    else:
        optimisers = {"restoration": Adam(net.parameters(), lr=rate)}
    if config.loss == "gan":
        critic = Discriminator()
        nets["critic"] = synchronise_batch_norm(critic) if config.sync_batch else critic
        optimisers["critic"] = Adam(critic.parameters(), lr=config.critic_learning_rate)
    return State(nets, optimisers)


def frozen_networks(config: RestorationConfig, extractor: nn.Module | None) -> Frozen:
    """Load what the configuration needs beside the networks that learn."""
    vgg = load_vgg(config) if config.network != "small" and config.reference_encoder == "vgg19" else None
    if config.matcher == "vgg19":
        extractor = VggExtractor(load_vgg(config, ("relu3_1",)))
    perceptual = load_vgg(config, ("relu5_1",)) if config.loss == "gan" else None
    return Frozen(extractor.eval().requires_grad_(False) if extractor else None, vgg, perceptual)


def train_restoration(
    config: RestorationConfig, examples: Examples, state: State, journal: Journal, frozen: Frozen
) -> None:
    """Train until ``config.iterations``; everything that lasts is in the journal's run folder."""
    place = journal.place
    batches = load_batches(examples, state.step, place.rank, place.world)
    learning = [name for name in state.nets if name != "critic"]
    with noting_signals(journal):
        while state.step < config.iterations:
            for net in state.nets.values():
                net.zero_grad()
            values: dict[str, Tensor] = {}
            rate = rate_at(state.step, config, *_schedule(config))
            pairs = 0
            for _ in range(config.accumulate):
                with journal.phase("data"):
                    batch = to_device(next(batches), place.device)
                size = len(batch["hr"])
                with journal.phase("match"), torch.no_grad(), autocast(config, place.device):
                    match = find_matches(config, frozen, batch)
                with journal.phase("forward"), autocast(config, place.device):
                    sr = restore_batch(config, state.nets, frozen, batch, match).float()
                losses = {"l1": F.l1_loss(sr, batch["hr"])}
                if config.loss == "gan" and state.step >= config.warm_up:
                    with journal.phase("critic"):
                        losses |= move_critic(config, state, journal, sr.detach(), batch["hr"])
                    losses |= gan_losses(config, state, frozen, sr, batch["hr"], journal)
                with journal.phase("backward"):
                    total = torch.stack([losses[name] for name in GENERATOR_LOSSES if name in losses]).sum()
                    torch.autograd.backward(size * total)
                pairs += size
                for name, value in losses.items():
                    values[name] = values.get(name, 0) + size * value.detach()
            with journal.phase("step"):
                norms = [apply_gradients(state, n, pairs, config, place, learning_rate=rate) for n in learning]
            means = average(torch.stack(list(values.values())) / pairs, place).tolist()
            journal.after_step(
                {**dict(zip(values, means, strict=True)), "gradient_norm": norms[0], "learning_rate": rate}
            )


GENERATOR_LOSSES = ("l1", "perceptual", "adversarial")


def _schedule(config: RestorationConfig) -> tuple[str, tuple[int, ...]]:
    names = {"constant-as-released": "constant", "steps-as-configured": "steps"}
    return names.get(config.generator_schedule, config.generator_schedule), config.decay_at


# --- forward -------------------------------------------------------------------------------------------------------


def find_matches(config: RestorationConfig, frozen: Frozen, batch: Batch) -> object:
    """What the restoration network is told about where to look; None for a network that learns without reference."""
    if not config.uses_reference or frozen.extractor is None:
        return None
    features = [feature.float() for feature in frozen.extractor(batch["lr_up"], batch["ref"])]
    return match_cells(*features) if config.network == "small" else find_offsets(*features)


def restore_batch(
    config: RestorationConfig, nets: Mapping[str, nn.Module], frozen: Frozen, batch: Batch, match: object
) -> Tensor:
    """SR pictures ``(B, 3, H, W)`` of a batch, not clamped."""
    net = nets["restoration"]
    if isinstance(net, SmallRestoration):
        ref = batch["ref"] if match is not None else None
        restored: Tensor = net(batch["lr"], batch["lr_up"], ref, match)
        return restored
    if frozen.vgg is not None:
        with torch.no_grad():
            features = frozen.vgg(batch["ref"])
    else:
        features = nets["encoder"](batch["ref"])
    restored = net(batch["lr"], match, features)
    return restored


# --- the GAN's part ------------------------------------------------------------------------------------------------


def move_critic(config: RestorationConfig, state: State, journal: Journal, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
    """One step of the critic, before the generator's, which then meets the *updated* critic, as released."""
    critic, place = state.nets["critic"], journal.place
    critic.zero_grad()
    alpha = draw_alpha(config, state.step, place.rank, len(hr)).to(hr.device)
    share = len(hr)
    opinions = critic_loss(critic(hr), critic(sr))
    penalty = gradient_penalty(critic, hr, sr, alpha, config.penalty_weight)
    torch.autograd.backward(share * (opinions + penalty))
    rate = rate_at(state.step, config, "steps", config.decay_at) / config.learning_rate
    norm = apply_gradients(state, "critic", share, config, place, learning_rate=rate * config.learning_rate)
    return {"critic": opinions, "penalty": penalty, "critic_norm": torch.tensor(norm)}


def draw_alpha(config: RestorationConfig, step: int, rank: int, share: int) -> Tensor:
    """Weights of the gradient penalty's mixtures, ``(share, 1, 1, 1)``: a pure function of seed, step and pair.

    So a run that goes on draws what it would have drawn; the release draws from one global generator.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    return torch.rand(config.batch, 1, 1, 1, generator=generator)[rank * share : (rank + 1) * share]


def gan_losses(
    config: RestorationConfig, state: State, frozen: Frozen, sr: Tensor, hr: Tensor, journal: Journal
) -> dict[str, Tensor]:
    """The generator's two further terms."""
    assert frozen.perceptual is not None
    features_sr, features_hr = frozen.perceptual(sr)["relu5_1"], frozen.perceptual(hr)["relu5_1"].detach()
    if config.sync_batch:
        features_sr, features_hr = (gather(f, journal.place) for f in (features_sr, features_hr))
    return {
        "perceptual": perceptual_loss(features_sr, features_hr, config.perceptual_weight),
        "adversarial": generator_loss(state.nets["critic"](sr), config.adversarial_weight),
    }
