"""Checkpoints: tensors only, checked key by key; imported once, then known by hash.

A weight file is never trusted. Pickles are read by torch's restricted reader, which refuses anything but tensors and
plain containers, so a file that carries code is reported and not run.

Imported files lie in ``<model folder>/<model>/<role>.safetensors`` with a ``<role>.json`` beside each (`WeightFile`),
written last: a file without it was never completely imported.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pydantic
import safetensors.torch
import torch
from torch import Tensor, nn

from refsr_bench import disk, store
from refsr_bench.errors import IntegrityError, UsageError, did_you_mean
from refsr_bench.models.npz import read_npz
from refsr_bench.schema import Frozen, Sha256

if TYPE_CHECKING:
    from refsr_bench.models.certificate import Certificate

WRAPPERS = ("params_ema", "params", "state_dict")
"""Keys under which training code hides the state dict; the averaged weights are preferred."""

FORMATS = (".pth", ".pt", ".safetensors", ".npz")


class WeightFile(Frozen):
    """The ``<role>.json`` of an imported weight file."""

    role: str
    architecture: str
    source_file: str
    """Name of the file it was imported from."""
    source_sha256: Sha256
    sha256: Sha256
    """Of the imported ``.safetensors``."""
    licence: str
    convention: str
    """How the network is fed, where files differ in that (VGG-19); else "as released"."""


class Identified(NamedTuple):
    """What a checkpoint turned out to be, its tensors checked against the network's definition."""

    role: str
    architecture: str
    licence: str
    convention: str
    state: dict[str, Tensor]


# --- reading -----------------------------------------------------------------------------------------------------


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``, ``.pt``, ``.safetensors`` or ``.npz`` file onto the CPU, by key.

    Unwraps ``params_ema``, ``params`` and ``state_dict`` and strips a ``module.`` that every key begins with.
    Nothing in the file is ever executed. UsageError: no such file or format. IntegrityError: damaged, truncated, or
    holding anything but tensors.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} is not a weight file by its name", f"known formats: {', '.join(FORMATS)}")
    if not path.is_file():
        raise UsageError(f"there is no weight file {path}")
    try:
        content = _read(path)
    except pickle.UnpicklingError as error:
        raise IntegrityError(
            f"{path} is not a plain tensor checkpoint: either it holds objects that could run code, or it is something"
            " else under this name; nothing in it was run",
            "fetch the published file again, or let whoever made it save the state_dict alone",
        ) from error
    except Exception as error:  # readers of untrusted bytes fail in many ways; all mean the same here
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise IntegrityError(
            f"{path} cannot be read: damaged, truncated or not what its name says ({reason})", "fetch the file again"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    return _tensors_only(content, path)


def _read(path: Path) -> object:
    match path.suffix.lower():
        case ".safetensors":
            return safetensors.torch.load_file(path)
        case ".npz":
            return read_npz(path)
        case _:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch remarks on odd pickles; the error below says it better
                return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251


def _tensors_only(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise IntegrityError(f"{path} holds no state dict but a {type(content).__name__}")
    odd = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if odd:
        raise IntegrityError(f"{path} holds entries that are not tensors: {_listing(odd)}")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value.detach() for key, value in content.items()}


# --- checking ----------------------------------------------------------------------------------------------------


def require_match(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Raise one IntegrityError that lists every kind of difference in keys and shapes, if there is any."""
    missing = [f"{key} {_shape(expected[key])}" for key in expected if key not in state]
    extra = [f"{key} {_shape(state[key])}" for key in state if key not in expected]
    misshapen = [
        f"{key} {_shape(state[key])} instead of {_shape(expected[key])}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    groups = (("missing", missing), ("not expected", extra), ("of another shape", misshapen))
    lines = [f"{len(keys)} {what}: {_listing(keys)}" for what, keys in groups if keys]
    if lines:
        raise IntegrityError("\n  ".join([f"{source} does not fit the network", *lines]))


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    key_map: Callable[[str], str | None] | None = None,
) -> None:
    """Copy a checkpoint into a module; every key and shape must agree, else one IntegrityError names the differences.

    ``key_map`` turns a checkpoint's key into the module's, or into None for an entry to leave out.
    """
    if key_map is not None:
        state = {new: value for key, value in state.items() if (new := key_map(key)) is not None}
    require_match(module.state_dict(), state, source)
    module.load_state_dict(dict(state))


def _shape(tensor: Tensor) -> str:
    return "×".join(str(n) for n in tensor.shape) or "scalar"


def _listing(keys: Sequence[str], limit: int = 8) -> str:
    more = f" … and {len(keys) - limit} more" if len(keys) > limit else ""
    return "; ".join(keys[:limit]) + more


# --- importing ---------------------------------------------------------------------------------------------------


def import_weights(model: str, files: Sequence[str | Path], out: Path | None = None) -> list[WeightFile]:
    """Check weight files of a model and store them, tensors only, in the model folder (or ``out``), with certificates.

    Each file is recognised by its keys; where two roles share their keys the file's name decides, or the caller does
    by writing ``ROLE=FILE``. All files are checked before the first is stored. UsageError: an unknown model or role,
    a role that cannot be told or is given twice. IntegrityError: a file that does not fit its network.
    """
    # Imported here because that module needs this one.
    from refsr_bench.models.certificate import certify

    identify = _identifier(model)
    found: dict[str, tuple[Path, Identified, Certificate]] = {}
    for item in files:
        path, role = _split_role(item)
        original = load_checkpoint(path)
        identified = identify(original, path, role)
        if identified.role in found:
            raise UsageError(f"{path} and {found[identified.role][0]} are both {identified.role}", "give one of them")
        found[identified.role] = (path, identified, certify(model, path, original, identified))
    folder = (out if out is not None else store.model_dir()) / model
    return [_store(folder, path, identified, certificate) for path, identified, certificate in found.values()]


def _identifier(model: str) -> Callable[[Mapping[str, Tensor], Path, str | None], Identified]:
    # Imported here because a model's module needs this one.
    from refsr_bench.models import method, zoo
    from refsr_bench.models.c2matching import roles

    identifiers: dict[str, Callable[[Mapping[str, Tensor], Path, str | None], Identified]]
    identifiers = {"c2matching": roles.identify, **{name: partial(method.identify, name) for name in zoo.HOMES}}
    if model not in identifiers:
        raise UsageError(f"no weights can be imported for {model!r}", did_you_mean(model, identifiers))
    return identifiers[model]


def _split_role(item: str | Path) -> tuple[Path, str | None]:
    text = str(item)
    role, equals, path = text.partition("=")
    # A file whose own name holds "=" is a file.
    return (Path(path), role) if equals and not Path(text).exists() else (Path(text), None)


def _store(folder: Path, path: Path, identified: Identified, certificate: Certificate) -> WeightFile:
    # Cloned because the format refuses tensors that share memory, as those of some checkpoints do.
    state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in identified.state.items()}
    target = folder / f"{identified.role}.safetensors"
    sidecar = target.with_suffix(".json")
    # Between the writes below an older sidecar would vouch for the wrong file.
    sidecar.unlink(missing_ok=True)
    disk.atomic_write_json(target.with_suffix(".certificate.json"), certificate.model_dump(mode="json"))
    disk.atomic_write_bytes(target, safetensors.torch.save(state))
    described = WeightFile(
        role=identified.role,
        architecture=identified.architecture,
        source_file=path.name,
        source_sha256=disk.sha256_file(path),
        sha256=disk.sha256_file(target),
        licence=identified.licence,
        convention=identified.convention,
    )
    disk.atomic_write_json(sidecar, described.model_dump(mode="json"))
    return described


# --- what is there -----------------------------------------------------------------------------------------------


def read_sidecar(path: Path) -> WeightFile:
    """Read the description beside an imported weight file; IntegrityError if it is missing or not one."""
    sidecar = path.with_suffix(".json")
    try:
        return WeightFile.model_validate_json(sidecar.read_bytes())
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} has no {sidecar.name}: its import was interrupted", "import it again") from error
    except pydantic.ValidationError as error:
        raise IntegrityError(
            f"{sidecar} is not the description of a weight file", "import the weights again"
        ) from error


def check_imported(path: Path) -> WeightFile:
    """Re-hash an imported weight file against its description, which is returned; IntegrityError if they differ."""
    described = read_sidecar(path)
    if not path.is_file():
        raise IntegrityError(f"{path} was imported, but is gone", "import it again")
    if disk.sha256_file(path) != described.sha256:
        raise IntegrityError(f"{path} has changed since it was imported", "import it again")
    return described


def list_weights(folder: Path | None = None) -> list[tuple[Path, WeightFile]]:
    """List the completely imported weight files of every model, without reading them."""
    complete = [path for path in _imported(folder) if path.is_file() and path.with_suffix(".json").is_file()]
    return [(path, read_sidecar(path)) for path in complete]


def verify_weights(folder: Path | None = None) -> list[tuple[Path, str | None]]:
    """Re-hash every imported weight file, those that are gone included: its path, and what is wrong with it or None."""
    checked: list[tuple[Path, str | None]] = []
    for path in _imported(folder):
        try:
            check_imported(path)
        except IntegrityError as error:
            checked.append((path, error.problem))
        else:
            checked.append((path, None))
    return checked


def _imported(folder: Path | None) -> list[Path]:
    """Every weight file that is there or was: one that was deleted left its description and its certificate behind."""
    folder = folder if folder is not None else store.model_dir()
    described = [path for path in folder.glob("*/*.json") if path.with_suffix(".certificate.json").is_file()]
    return sorted({*folder.glob("*/*.safetensors"), *(path.with_suffix(".safetensors") for path in described)})
