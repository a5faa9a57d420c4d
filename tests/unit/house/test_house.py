"""The house rules that a machine can hold: sizes, floors, types, style, generated code.

Each is a test because a rule that only a person keeps is kept until Friday.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("klamm", "controller", "broker", "tests", "benchmarks")
GENERATED = ROOT / "klamm" / "v1"

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60


def sources() -> list[Path]:
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in files if GENERATED not in path.parents]


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_fits_a_few_screens() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path, lines in lengths.items()
        if lines > FILE_LINES_MAX
    }
    assert not too_long


def test_every_function_fits_a_screen() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{each.lineno} {each.name}: {each.end_lineno - each.lineno + 1}"
        for path in sources()
        for each in functions(ast.parse(path.read_text()))
        if each.end_lineno is not None and each.end_lineno - each.lineno >= FUNCTION_LINES_MAX
    ]
    assert not too_long


def test_every_loop_looks_names_up_in_threads_of_their_own() -> None:
    """asyncio's own has a silent name server stop the threads that fsync (`klamm/names.py`)."""
    begun = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks")
        and "asyncio.run(" in path.read_text()
    ]
    # Offline: no address is ever looked up.
    assert begun == ["controller/recovery/__main__.py"]


def test_a_sign_hangs_at_every_door() -> None:
    """A package's `__init__` says what it is, and holds no code but imports and names."""
    for path in sources():
        if path.name != "__init__.py" or "tests" in path.parts:
            continue
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no sign"


def test_no_room_is_named_for_a_pattern() -> None:
    bad = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "base.py", "misc.py"}
    assert not [str(path) for path in sources() if path.name in bad]


def test_nothing_sleeps_in_tests() -> None:
    """Tests wait for a condition; `asyncio.sleep(0)` only lets others run."""
    offenders = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        if "tests" in path.parts and path != Path(__file__)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"
    ]
    assert not offenders


def test_ruff() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_ruff_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.timeout(600)
def test_mypy_strict() -> None:
    run(sys.executable, "-m", "mypy")


def test_import_contracts() -> None:
    run(str(Path(sys.executable).parent / "lint-imports"))


def test_buf_lint() -> None:
    run(str(Path(sys.executable).parent / "buf"), "lint", "proto")


def test_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    plugins = Path(sys.executable).parent
    run(
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'proto'}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *(str(path) for path in sorted((ROOT / "proto" / "klamm" / "v1").glob("*.proto"))),
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / "klamm" / "v1").iterdir()}
    kept = {
        path.name: path.read_bytes()
        for path in GENERATED.iterdir()
        if path.suffix in {".py", ".pyi"} and path.name != "__init__.py"
    }
    assert made == kept
