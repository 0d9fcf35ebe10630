"""Fixtures shared by all tests: real pictures, golden numbers, and a private home for everything that is written."""

from __future__ import annotations

import importlib.resources
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from refsr_bench.images import encode_png, load_image
from refsr_bench.schema import Record, StoredReference
from refsr_bench.store import add_image, building, seal


def pytest_configure() -> None:
    """Heed Ctrl-C, and with it all commands that tests start, even where the suite runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("house", deadline=None, derandomize=True)  # no clock and no chance decides
    settings.load_profile("house")


@pytest.fixture(autouse=True)
def _private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("REFSR_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("REFSR_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("REFSR_MODEL_DIR", str(home / "models"))


def _folder_from(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: {what} are not here")
    return Path(value)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numeric fixtures of the released code."""
    return _folder_from("REFSR_GOLDEN", "the golden fixtures")


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """Real photographs and published outputs that may not be redistributed."""
    return _folder_from("REFSR_DEV_DATA", "the development photographs")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The public-domain and CC0 photographs inside scikit-image's wheel."""
    return Path(str(importlib.resources.files("skimage"))) / "data"


@pytest.fixture
def small_dataset(tmp_path: Path, photographs: Path) -> Path:
    """A built dataset of three 48x40 samples in two groups, each with a reference of another size."""
    picture = load_image(photographs / "chelsea.png")
    target = tmp_path / "small"
    with building(target) as root:
        records = []
        for i, name in enumerate(("a", "b", "c")):
            hr = picture[60 * i : 60 * i + 40, 100:148]
            ref = picture[60 * i : 60 * i + 44, 110:150]
            records.append(
                Record(
                    name=name,
                    hr=add_image(root, f"hr/{name}.png", encode_png(hr)),
                    refs=(
                        StoredReference(**add_image(root, f"ref/{name}.png", encode_png(ref)).model_dump(), level=1),
                    ),
                    group="first" if i < 2 else "second",
                    source="scikit-image, chelsea.png",
                    licence="CC0",
                    made=f"rows {60 * i} to {60 * i + 40}",
                )
            )
        seal(
            root,
            records,
            name="small",
            version="1",
            title="three samples",
            licence="CC0",
            citation="none",
            builder_version="1",
        )
    return target
