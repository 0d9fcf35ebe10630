"""The rules of the house: layers, lazy imports, import without side effects, plug-in tables that resolve."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import refsr_bench
from refsr_bench.lookup import BUILT_IN, KINDS, find, list_entries

PACKAGE = Path(refsr_bench.__file__).parent
FOLDERS = ("results", "protocols", "models", "collectors")
BASE = {"schema", "errors", "disk", "store", "images", "geometry", "lookup", "signature", "verification", "localweb"}
BASE_LIBRARIES = {"numpy", "PIL", "cv2", "pydantic", "filelock", "platformdirs", "flask", "werkzeug", "refsr_bench"}
HOMES = {  # library: the only places that may import it
    "torch": ("models",),
    "safetensors": ("models",),
    "skimage": ("protocols",),
    "pandas": ("results",),
    "matplotlib": ("results",),
    "jinja2": ("results",),
    "requests": ("collectors",),
    "bs4": ("collectors",),
    "protego": ("collectors",),
    "flask": ("localweb.py", "collectors", "results"),
    "gdown": ("collectors",),
    "urllib3": ("collectors",),
    "click": ("cli",),
    "tqdm": ("cli",),
}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def place_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    place = place_of(path)
    own = {module.split(".")[1] for module in imported_modules(path) if module.startswith("refsr_bench.")}
    if place in FOLDERS:
        assert own <= BASE | {place, "__version__"}, f"{place} reaches into another layer"
    elif place.removesuffix(".py") in BASE:
        assert own <= BASE
        libraries = {module.split(".")[0] for module in imported_modules(path)} - set(sys.stdlib_module_names)
        assert libraries <= BASE_LIBRARIES


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_stay_at_home(path: Path) -> None:
    libraries = {module.split(".")[0] for module in imported_modules(path)}
    for library in libraries & set(HOMES):
        assert place_of(path) in HOMES[library], f"{library} is imported outside {HOMES[library]}"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["list", "models"], ["info", "c2matching"], ["info", "cufed5"], ["build", "demo"]],
)
def test_cheap_commands_load_no_torch(arguments: list[str]) -> None:
    loaded = run_python(
        "import sys\n"
        f"sys.argv = ['refsr-bench', *{arguments!r}]\n"
        "from refsr_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    modules = loaded.rsplit("LOADED", 1)[1].split()
    assert not {"torch", "skimage", "scipy", "matplotlib"} & set(modules)
    assert arguments != ["--help"] or not {"numpy", "pydantic", "PIL"} & set(modules)


def test_scoring_loads_no_torch(small_dataset: Path, tmp_path: Path) -> None:
    arguments = ["score", str(small_dataset / "hr"), "--dataset", str(small_dataset), "--out", str(tmp_path / "run")]
    loaded = run_python(
        "import sys\n"
        f"sys.argv = ['refsr-bench', *{arguments!r}]\n"
        "from refsr_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print('torch' in sys.modules)"
    )
    assert loaded.splitlines()[-1] == "False"


def test_importing_touches_neither_disk_nor_network() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if path.name != "__main__.py"
    ]
    everything = f"import {', '.join(modules)}\n"
    run_python(
        "import sys\n"
        + everything  # the libraries behind them may do as they like
        + "for name in [m for m in sys.modules if m.startswith('refsr_bench')]: del sys.modules[name]\n"
        "def hook(event, args):\n"
        "    writes = event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+')\n"
        "    forbidden = writes or event.startswith('socket.') or event in ('os.mkdir', 'os.remove', 'os.rename')\n"
        "    assert not forbidden or '__pycache__' in str(args[0]), (event, args)\n"
        "sys.addaudithook(hook)\n" + everything
    )


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in BUILT_IN[kind]])
def test_every_built_in_name_resolves(kind, name) -> None:  # type: ignore[no-untyped-def]
    assert find(kind, name) is not None


def test_every_built_in_model_has_a_card_of_its_name() -> None:
    for name in list_entries("models"):
        factory = find("models", name)
        assert sys.modules[factory.__module__].CARDS[name].name == name


def test_every_module_says_what_it_is() -> None:
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{path} has no docstring"


def test_no_mutable_module_state() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not isinstance(node, ast.Global), f"{path}:{node.lineno} has a global statement"
