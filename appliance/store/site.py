"""Small facts about this installation, by name."""

from __future__ import annotations

from sqlalchemy import Engine

from appliance.store.database import reading, writing
from appliance.store.tables import SiteRow


def get(engine: Engine, key: str) -> str | None:
    with reading(engine) as s:
        row = s.get(SiteRow, key)
        return row.value if row else None


def put(engine: Engine, key: str, value: str | None) -> None:
    """None takes it away."""
    with writing(engine) as s:
        row = s.get(SiteRow, key)
        if value is None:
            if row:
                s.delete(row)
            return
        row = row or SiteRow(key=key, value=value)
        row.value = value
        s.add(row)
