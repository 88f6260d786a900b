"""The walls of ARCHITECTURE.md section 1: who may import whom, where SQL lives, and how long files are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [path for room in ("videomoments_dagster", "db", "api") for path in sorted((ROOT / room).rglob("*.py"))]
STATEMENTS = {"select", "insert", "update", "delete", "text"}


def test_import_contracts_are_kept() -> None:
    """The contracts stand in pyproject.toml under [tool.importlinter]."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    report = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stdout[-4000:] + report.stderr[-2000:]
    assert "0 broken" in report.stdout


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if ROOT / "db" not in p.parents], ids=lambda p: str(p.relative_to(ROOT))
)
def test_sql_is_built_in_db_queries_only(path: Path) -> None:
    """`stack` creates databases before any exists and speaks to the server itself; it imports no SQLAlchemy either."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
            assert not STATEMENTS & {alias.name for alias in node.names}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is_for_and_stays_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    else:
        assert path.name == "__init__.py"


def test_packages_are_empty_so_that_importing_one_loads_nothing() -> None:
    assert [p for p in SOURCES if p.name == "__init__.py" and p.read_text().strip()] == []
