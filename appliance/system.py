"""The parts of a running machine. `build` makes them; everything else is handed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from appliance.ports import Connector, Embedder, Generator, Index
from appliance.settings import Settings
from appliance.store.secrets import Keyring
from appliance.types import ALONE, Site

if TYPE_CHECKING:  # `kura work` has a Workshop and must not load an index to name one
    from appliance.ask.answer import Answerer
    from appliance.identity.passwords import Door
    from appliance.ingest.originals import Originals
    from appliance.search.follow import Follower
    from appliance.search.move import Mover
    from appliance.search.retrieve import Retriever
    from appliance.search.scope import ScopeMap


@dataclass(frozen=True)
class Workshop:
    """What `kura work` needs: documents come in, nothing is searched."""

    settings: Settings
    engine: Engine
    embedder: Embedder
    connectors: Mapping[str, type[Connector]] = field(default_factory=dict)  # by kind
    site: Site = ALONE
    named: Callable[[str], Embedder | None] = lambda name: None  # embedders this release can load


@dataclass(frozen=True)
class Appliance:
    """What `kura web` needs: questions are answered, nothing is parsed."""

    settings: Settings
    engine: Engine
    embedder: Embedder
    generator: Generator
    scopes: ScopeMap
    follower: Follower
    retriever: Retriever
    answerer: Answerer
    door: Door
    originals: Originals
    keyring: Keyring
    connectors: Mapping[str, type[Connector]] = field(default_factory=dict)
    mover: Mover | None = None  # while one embedder takes the place of another
    model_answers: Callable[[], bool] = lambda: True  # quick, and asked often
    model_metrics: Callable[[], str] = lambda: ""  # of `kura infer`, in Prometheus' text format

    @property
    def indexes(self) -> Sequence[Index]:
        return self.follower.indexes

    @property
    def searched_by(self) -> Embedder:
        """The embedder whose vectors are searched; documents come in by `embedder`."""
        serving = self.retriever.serving
        return serving.pair[0] if serving else self.embedder

    @property
    def uploads(self) -> Path:
        return uploads(self.settings)


def desk(settings: Settings) -> Path:
    """Socket on which `work` gives `web` originals and pictures of their pages."""
    return settings.data / "desk.sock"


def uploads(settings: Settings) -> Path:
    """Folder of uploaded files: written by `web`, read by `work`."""
    return settings.data / "uploads"
