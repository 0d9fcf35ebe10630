"""Stage 2 of C2-Matching: the student matches an enlarged LR picture to a full-resolution one (paper section 3.2).

The teacher, which sees the HR picture instead, is distilled into it by the divergence of their correlations.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Adam

from refsr_bench.models.c2matching.checkpoints import State
from refsr_bench.models.c2matching.config import StudentConfig
from refsr_bench.models.c2matching.loop import Journal, apply_gradients, noting_signals, rate_at
from refsr_bench.models.c2matching.networks import autocast, to_device
from refsr_bench.models.c2matching.train_teacher import backward, mean_losses, pair_losses
from refsr_bench.models.c2matching.training_data import Examples, load_batches


def student_state(config: StudentConfig, net: nn.Module) -> State:
    """The network and its optimiser: Adam with the default betas, as released."""
    optimiser = Adam(net.parameters(), lr=config.learning_rate)
    return State({"extractor": net}, {"extractor": optimiser})


def train_student(
    config: StudentConfig, examples: Examples, state: State, journal: Journal, teacher: nn.Module | None
) -> None:
    """Train until ``config.iterations``; everything that lasts is in the journal's run folder.

    The release computes the teacher's gradients and never applies them; here they are not computed, which changes
    nothing else.
    """
    place, net = journal.place, state.nets["extractor"]
    distils = teacher is not None and config.distillation_weight > 0
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    batches = load_batches(examples, state.step, place.rank, place.world)
    with noting_signals(journal):
        while state.step < config.iterations:
            net.zero_grad()
            parts = []
            for _ in range(config.accumulate):
                with journal.phase("data"):
                    batch = to_device(next(batches), place.device)
                with journal.phase("forward"), autocast(config, place.device):
                    taught = teacher(batch["hr"], batch["ref"]) if teacher is not None and distils else None
                    part = pair_losses(
                        net(batch["lr_up"], batch["ref"]),
                        batch,
                        config,
                        taught,
                        config.distillation_temperature,
                        config.distillation_weight,
                    )
                with journal.phase("backward"):
                    parts.append(backward(part))
            with journal.phase("step"):
                rate = rate_at(state.step, config, config.schedule, config.decay_at)
                pairs = sum(part.pairs for part in parts)
                norm = apply_gradients(state, "extractor", pairs, config, place, learning_rate=rate)
            journal.after_step({**mean_losses(parts, journal), "gradient_norm": norm, "learning_rate": rate})
