"""Losses, critic, pair sampler, optimiser groups and one whole training step against the released code."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_state
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from refsr_bench.models.c2matching.discriminator import Discriminator
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.losses import (
    Cells,
    PairLoss,
    contrastive_loss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    perceptual_loss,
    valid_cells,
)
from refsr_bench.models.c2matching.matching import find_offsets
from refsr_bench.models.c2matching.optimiser import make_generator_optimiser, parameter_groups
from refsr_bench.models.c2matching.pairs import draw_homography, make_contrastive_pair, true_positions
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.vgg import VGG19


def batch_of(images: np.ndarray) -> Tensor:
    """uint8 ``(B, H, W, 3)`` to float32 ``(B, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)).astype(np.float32) / np.float32(255))


def assert_within(actual: Tensor, expected: np.ndarray, share_of_max: float) -> None:
    difference = np.abs(actual.detach().numpy() - expected).max()
    assert difference <= share_of_max * np.abs(expected).max()


# --- contrastive stages -------------------------------------------------------------------------------------------


class Contrastive:
    """The fixture's batch with both networks, in one weight variant."""

    def __init__(self, golden: Path, variant: str) -> None:
        self.data = np.load(golden / "losses_contrastive.npz")
        self.variant = variant
        shared = variant == "S"
        self.student, self.teacher = Extractor(), Extractor()
        self.student.load_state_dict(golden_state(self.student, shared=shared))
        self.teacher.load_state_dict(golden_state(self.teacher, "teacher.", shared=shared))
        self.hr, self.lr_up = batch_of(self.data["hr_u8"]), batch_of(self.data["lr_up_u8"])
        self.ref = torch.from_numpy(self.data["ref"])
        self.positions = torch.from_numpy(self.data["coord_sub"])

    def expected(self, name: str) -> np.ndarray:
        return self.data[f"{self.variant}_{name}"]  # type: ignore[no-any-return]

    def student_loss(self, chosen: slice = slice(None), margin: float = 1.0) -> PairLoss | None:
        return contrastive_loss(
            self.student(self.lr_up[chosen], self.ref[chosen]),
            self.positions[chosen],
            teacher=self.teacher(self.hr[chosen], self.ref[chosen]),
            margin=margin,
        )


@pytest.fixture(scope="module", params=["A", "S"])
def contrastive(golden: Path, request: pytest.FixtureRequest) -> Contrastive:
    return Contrastive(golden, request.param)


def test_valid_cells_and_skipped_pairs(contrastive: Contrastive) -> None:
    cells = [valid_cells(positions, 128, 128) for positions in contrastive.positions]
    assert [len(pair.first) for pair in cells] == contrastive.data["n_valid"].tolist()


def test_positions_follow_from_the_matrix(contrastive: Contrastive) -> None:
    for matrix, positions in zip(contrastive.data["H_inverse"], contrastive.data["coord_sub"], strict=True):
        assert true_positions(matrix, 128, 128) == pytest.approx(positions, abs=1e-9)


def test_teacher_loss_and_gradients(contrastive: Contrastive) -> None:
    teacher = contrastive.teacher
    teacher.zero_grad()
    losses = contrastive_loss(teacher(contrastive.hr, contrastive.ref), contrastive.positions)
    assert losses is not None
    losses.loss.backward()
    for name, value in (("loss", losses.loss), ("pos_dist", losses.positive), ("neg_dist", losses.negative)):
        assert value.item() == pytest.approx(float(contrastive.expected(f"teacher_{name}")), rel=1e-5)
    first, second = teacher.feature_extraction_image1.model, teacher.feature_extraction_image2.model
    assert_within(first.conv3_1.bias.grad, contrastive.expected("teacher_grad_image1_conv3_1_bias"), 2e-3)
    assert_within(second.conv1_1.weight.grad, contrastive.expected("teacher_grad_image2_conv1_1_weight"), 2e-3)
    norms = [parameter.grad.norm().item() for parameter in teacher.parameters()]  # type: ignore[union-attr]
    assert norms == pytest.approx(contrastive.expected("teacher_grad_norms").tolist(), rel=1e-3)


def test_student_loss_and_gradients(contrastive: Contrastive) -> None:
    student = contrastive.student
    student.zero_grad()
    losses = contrastive.student_loss()
    assert losses is not None
    losses.loss.backward()
    for name, value in (
        ("loss", losses.loss),
        ("pos_dist", losses.positive),
        ("neg_dist", losses.negative),
        ("distill_loss", losses.distillation),
    ):
        assert value.item() == pytest.approx(float(contrastive.expected(f"student_{name}")), rel=1e-5)
    first, second = student.feature_extraction_image1.model, student.feature_extraction_image2.model
    assert_within(first.conv3_1.bias.grad, contrastive.expected("student_grad_image1_conv3_1_bias"), 2e-3)
    assert_within(first.conv1_1.weight.grad, contrastive.expected("student_grad_image1_conv1_1_weight"), 2e-3)
    assert_within(second.conv1_1.weight.grad, contrastive.expected("student_grad_image2_conv1_1_weight"), 2e-3)
    assert_within(second.conv3_1.weight.grad[0], contrastive.expected("student_grad_image2_conv3_1_weight_o0"), 2e-3)
    names = [name for name, _ in student.named_parameters()]
    assert names == contrastive.expected("student_grad_names").tolist()
    norms = [parameter.grad.norm().item() for parameter in student.parameters()]  # type: ignore[union-attr]
    assert norms == pytest.approx(contrastive.expected("student_grad_norms").tolist(), rel=1e-3)


def test_student_loss_with_inactive_hinges(contrastive: Contrastive) -> None:
    losses = contrastive.student_loss(margin=0.05)
    assert losses is not None
    assert losses.loss.item() == pytest.approx(float(contrastive.expected("student_margin0.05_loss")), rel=1e-5)


def test_each_pair_alone(contrastive: Contrastive) -> None:
    for i, expected in enumerate(contrastive.expected("student_per_pair")):
        losses = contrastive.student_loss(slice(i, i + 1))
        if np.isnan(expected).any():
            assert losses is None
        else:
            assert losses is not None
            assert [value.item() for value in losses] == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_batch_without_usable_pairs_has_no_loss() -> None:
    features = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    assert contrastive_loss(features, torch.zeros(1, 8, 8, 2, dtype=torch.float64)) is None
    assert isinstance(valid_cells(torch.zeros(8, 8, 2, dtype=torch.float64), 32, 32), Cells)


# --- pair sampler -------------------------------------------------------------------------------------------------


def test_homographies_of_the_released_sampler(golden: Path) -> None:
    data = np.load(golden / "sampling.npz")
    for seed, expected in zip(data["seeds"], data["H_inverse"], strict=True):
        assert draw_homography(np.random.RandomState(seed)) == pytest.approx(expected, rel=1e-9)
    rng = np.random.RandomState(0)
    for expected in data["valpool_H_inverse"]:
        assert draw_homography(rng) == pytest.approx(expected, rel=1e-9)


def test_pairs_of_the_released_sampler(golden: Path) -> None:
    data = np.load(golden / "sampling.npz")
    for i, seed in enumerate(data["seeds"]):
        matrix = draw_homography(np.random.RandomState(seed))
        positions = true_positions(matrix, 160, 160, 16)
        assert positions == pytest.approx(data[f"s{seed}_coord_sub"][..., :2], abs=1e-9)
        if i == 0:
            assert true_positions(matrix, 160, 160, 2) == pytest.approx(data["coord_full"][..., :2], abs=1e-9)
        if f"s{seed}_warped" in data.files:
            pair = make_contrastive_pair(data["image_u8"], matrix)
            assert np.abs(np.moveaxis(pair.ref, -1, 0) - data[f"s{seed}_warped"]).max() <= 5e-5
            assert np.array_equal(np.moveaxis(pair.lr_up, -1, 0), data["lr_up"])


def test_the_centred_sampler_is_milder() -> None:
    rng = np.random.RandomState(0)
    centred, released = (
        np.mean([_displacement(draw_homography(rng, sampler=sampler)) for _ in range(200)])
        for sampler in ("centred", "as-released")
    )
    assert 4 < centred < 6 < 8 < released < 14


def _displacement(matrix: np.ndarray) -> float:
    here = true_positions(np.eye(3), 160, 160)
    return float(np.linalg.norm(true_positions(matrix, 160, 160) - here, axis=-1).mean())


# --- restoration stage --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def critic() -> Discriminator:
    critic = Discriminator()
    critic.load_state_dict(golden_state(critic))
    return critic


@pytest.fixture(scope="module")
def relu5_1() -> VGG19:
    vgg = VGG19(("relu5_1",))
    vgg.load_state_dict(golden_state(vgg, "vgg19."))
    return vgg.eval()


def fresh_critic() -> Discriminator:
    critic = Discriminator()
    critic.load_state_dict(golden_state(critic))
    return critic.train()


def test_critic_shapes_and_state(golden: Path) -> None:
    critic = Discriminator()
    expected = json.loads((golden / "state_keys.json").read_text())["discriminator"]
    state = critic.state_dict()
    assert sum(p.numel() for p in critic.parameters()) == 5_242_529
    keys = expected["entries"] if isinstance(expected, dict) and "entries" in expected else expected
    assert len(state) == 74
    assert len(keys) == 74
    data = np.load(golden / "discriminator.npz")
    images = batch_of(data["images_u8"]).double()
    critic.load_state_dict(golden_state(critic))
    critic.double()  # in float32 the last block's statistics depend on the processor's kernels beyond tolerance
    with torch.no_grad():
        assert np.abs(critic.eval()(images).numpy() - data["out_eval_fresh_buffers"]).max() <= 2e-6
        assert np.abs(critic.train()(images).numpy() - data["out_train"]).max() <= 2e-6
        for key in (k for k in data.files if k.startswith("after_train_")):
            actual = critic.state_dict()[key.removeprefix("after_train_")].numpy()
            assert actual == pytest.approx(data[key], rel=1e-5, abs=1e-7)
        assert np.abs(critic.eval()(images).numpy() - data["out_eval_after_one_train_forward"]).max() <= 2e-6


def test_gan_losses_and_gradients(golden: Path, relu5_1: VGG19) -> None:
    data = np.load(golden / "losses_gan.npz")
    real = batch_of(data["gt_u8"])
    fake = torch.from_numpy(data["fake"]).requires_grad_()
    assert F.l1_loss(fake, real).item() == pytest.approx(float(data["l1"]), rel=1e-5)

    # In float64: ReLU and pooling have kinks, and float32 kernels of some processors fall on the other side of one.
    relu5_1 = copy.deepcopy(relu5_1).double()
    features_real = relu5_1(real.double())["relu5_1"].detach()
    features_fake = relu5_1(fake.double())["relu5_1"]
    assert np.abs(features_fake[:, ::4].detach().numpy() - data["perceptual_relu5_1_fake"]).max() <= 2e-5
    loss = perceptual_loss(features_fake, features_real)
    assert loss.item() == pytest.approx(float(data["perceptual"]), rel=1e-5)
    alone = perceptual_loss(features_fake[:1], features_real[:1])
    assert alone.item() == pytest.approx(float(data["perceptual_image0_only"]), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, fake)
    assert_within(gradient, data["perceptual_grad_fake"], 5e-3)

    critic = fresh_critic()
    opinion_real, opinion_fake = critic(real), critic(fake)
    assert np.abs(opinion_real.detach().numpy() - data["d_real_pred"]).max() <= 2e-6
    assert np.abs(opinion_fake.detach().numpy() - data["d_fake_pred"]).max() <= 2e-6
    expected = float(data["l_d_real"]) + float(data["l_d_fake"])
    assert critic_loss(opinion_real, opinion_fake).item() == pytest.approx(expected, abs=1e-6)
    adversarial = generator_loss(opinion_fake)
    assert adversarial.item() == pytest.approx(float(data["l_g_gan"]), rel=1e-5)
    (gradient,) = torch.autograd.grad(adversarial, fake)
    assert_within(gradient, data["l_g_gan_grad_fake"], 1e-3)


def test_gradient_penalty(golden: Path) -> None:
    data = np.load(golden / "losses_gan.npz")
    real = batch_of(data["gt_u8"])
    fake = torch.from_numpy(data["fake"]).requires_grad_()
    torch.manual_seed(int(data["gp_seed"]))
    alpha = torch.rand(2, 1, 1, 1)
    assert alpha.flatten().numpy() == pytest.approx(data["gp_alpha"])
    critic = fresh_critic()
    critic(real), critic(fake)  # the fixture's critic has seen both batches, which moves only its running statistics
    penalty = gradient_penalty(critic, real, fake, alpha)
    assert penalty.item() == pytest.approx(float(data["gp_loss_times10"]), rel=1e-3)
    penalty.backward()
    assert fake.grad is None
    parameters = dict(critic.named_parameters())
    for key in (k for k in data.files if k.startswith("gp_grad_") and "." in k):
        assert_within(parameters[key.removeprefix("gp_grad_")].grad, data[key], 1e-2)  # type: ignore[arg-type]


def test_learning_rate_groups(golden: Path) -> None:
    expected = json.loads((golden / "optim_groups.json").read_text())["generator_groups"]
    restoration = Restoration()
    names = {id(parameter): name for name, parameter in restoration.named_parameters()}
    for group, released in zip(parameter_groups(restoration), expected, strict=True):
        assert group["lr"] == released["lr"]
        assert [names[id(parameter)] for parameter in group["params"]] == released["names"]
    assert make_generator_optimiser(restoration).defaults["betas"] == (0.9, 0.999)


def test_one_released_step(golden: Path, relu5_1: VGG19) -> None:
    """Critic step with Adam, then the generator's losses with the *updated* critic, as at iteration 10,001."""
    data = np.load(golden / "train_step.npz")
    real, ref, lr, lr_up = (batch_of(data[f"{name}_u8"]) for name in ("gt", "ref", "lr", "lr_up"))
    extractor, restoration, vgg = Extractor(), Restoration(), VGG19()
    for net, prefix in ((extractor, ""), (restoration, ""), (vgg, "vgg19.")):
        net.load_state_dict(golden_state(net, prefix))
    critic = fresh_critic()
    with torch.no_grad():
        pre_offsets, ref_features = find_offsets(*extractor(lr_up, ref)), vgg(ref)
    fake = restoration(lr, pre_offsets, ref_features)
    assert np.abs(fake.detach().numpy() - data["output"]).max() <= 2e-6

    torch.manual_seed(int(data["seed"]))
    optimiser = Adam(critic.parameters(), lr=1e-4, betas=(0.9, 0.999))
    opinion_real, opinion_fake = critic(real), critic(fake.detach())
    assert -opinion_real.mean().item() == pytest.approx(float(data["log_l_d_real"]), rel=1e-4)
    assert opinion_fake.mean().item() == pytest.approx(float(data["log_l_d_fake"]), rel=1e-4)
    penalty = gradient_penalty(critic, real, fake, torch.rand(2, 1, 1, 1))
    assert penalty.item() == pytest.approx(float(data["log_l_grad_penalty"]), rel=2e-3)
    (critic_loss(opinion_real, opinion_fake) + penalty).backward()
    for name in ("conv_block1.0.weight", "conv_block5.4.weight", "out_block.3.weight"):
        assert_within(critic.get_parameter(name).grad, data[f"d_grad_{name}"], 2e-2)  # type: ignore[arg-type]
    optimiser.step()

    pixel = F.l1_loss(fake, real)
    perceptual = perceptual_loss(relu5_1(fake)["relu5_1"], relu5_1(real)["relu5_1"].detach())
    adversarial = generator_loss(critic(fake))
    assert pixel.item() == pytest.approx(float(data["log_l_g_pix"]), rel=1e-4)
    assert perceptual.item() == pytest.approx(float(data["log_l_g_percep"]), rel=1e-4)
    assert adversarial.item() == pytest.approx(float(data["log_l_g_gan"]), rel=3e-3)
    restoration.zero_grad()
    pixel.backward(retain_graph=True)
    for name in ("content_extractor.conv_first.weight", "dyn_agg_restore.small_dyn_agg.conv_offset_mask.bias"):
        assert_within(restoration.get_parameter(name).grad, data[f"pretrain_g_grad_{name}"], 1e-2)  # type: ignore[arg-type]
    (perceptual + adversarial).backward()
    for key in (k for k in data.files if k.startswith("g_grad_") and "." in k):
        assert_within(restoration.get_parameter(key.removeprefix("g_grad_")).grad, data[key], 1e-2)  # type: ignore[arg-type]
    norms = {name: parameter.grad.norm().item() for name, parameter in restoration.named_parameters()}  # type: ignore[union-attr]
    expected = dict(zip(data["g_grad_names"].tolist(), data["g_grad_norms"].tolist(), strict=True))
    assert norms == pytest.approx(expected, rel=1e-2)
