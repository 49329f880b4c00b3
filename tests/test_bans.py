"""Nothing in the product runs what a file says: no pickle, no code from text (threat M5).

Nor does it write a sheet, in which a title that begins with = would be a formula to whoever opens it
(threat S11): what is given out is JSON, Markdown or a page. Who adds one begins here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "pandas.read_pickle"}
# `torch.load` and `np.load` must say that nothing but numbers is wanted
SAFELY = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


SHEETS = {"csv.writer", "csv.DictWriter", "openpyxl.Workbook", "xlsxwriter.Workbook", "Workbook"}
SHEETS_OF = {"to_csv", "to_excel", "write_csv", "write_excel"}


def sheets(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in SHEETS or name.rpartition(".")[2] in SHEETS_OF | {"DictWriter"}:
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module == "csv":
            yield from (n.name for n in node.names if n.name in ("writer", "DictWriter"))
        elif isinstance(node, ast.Constant) and node.value == "text/csv; charset=utf-8":
            yield "an answer that is a sheet"


def banned(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                yield module
            case ast.Call(func=func, keywords=keywords):
                name = ast.unparse(func)
                if name in CALLS:
                    yield name
                if name in SAFELY:
                    wanted, value = SAFELY[name]
                    said = {k.arg: ast.literal_eval(k.value) for k in keywords if k.arg == wanted}
                    # numpy's own default is safe, that of torch is not to be relied upon
                    if said.get(wanted, False) is not value:
                        yield name


@pytest.mark.parametrize("folder", ["appliance", "connectors", "installer"])
def test_no_file_of_the_product_does(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in banned(path.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import yaml; yaml.load(f)",
        "eval(text)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import numpy as np; np.load(path, allow_pickle=True)",
    ],
)
def test_each_is_seen(source: str) -> None:
    assert list(banned(source))


@pytest.mark.parametrize(
    "source",
    ["import numpy as np; np.load(path)", "import torch; torch.load(path, weights_only=True)"],
)
def test_what_is_safe_is_let_through(source: str) -> None:
    assert not list(banned(source))


# the installer's sample documents are sheets too, of nothing that anybody wrote but we
@pytest.mark.parametrize("folder", ["appliance", "connectors"])
def test_nothing_is_given_out_as_a_sheet(folder: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in sheets(path.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "source",
    [
        "import csv; csv.writer(f)",
        "from csv import DictWriter",
        "frame.to_csv(path)",
        "import openpyxl; openpyxl.Workbook()",
        "import polars; polars.DataFrame().write_excel(path)",
    ],
)
def test_each_sheet_is_seen(source: str) -> None:
    assert list(sheets(source))


def test_to_read_a_sheet_is_not_to_write_one() -> None:
    assert list(sheets("import csv; csv.reader(f)")) == []
