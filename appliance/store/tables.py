"""Every table. Rows never leave `store/`: what leaves are frozen values."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

BIG = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts only an INTEGER up
NEVER_REUSED = {"sqlite_autoincrement": True}  # an index may still hold the id


class Utc(TypeDecorator[datetime]):
    """A moment. Aware in, aware out, whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a moment needs its zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def now() -> datetime:
    return datetime.now(UTC)


class SourceRow(SQLModel, table=True):
    __tablename__ = "source"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    kind: str
    settings: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    enabled: bool = True
    interval_s: int | None = None  # None: the appliance's own
    cron: str | None = None
    quiet: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    bytes_per_s: int | None = None
    dense_weight: float | None = None  # likewise, and so the next two
    chunk_chars: int | None = None
    parent_chars: int | None = None
    personal_data: str = Field(  # text.personal.Handling
        default="show", sa_column_kwargs={"server_default": "show"}
    )
    cursor: str | None = Field(default=None, sa_type=Text)
    wanted: bool = True  # look at it now, whatever `due_at` says
    anew: bool = Field(  # the next look goes from the beginning
        default=False, sa_column_kwargs={"server_default": "0"}
    )
    due_at: datetime = Field(default_factory=now, sa_type=Utc, index=True)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Utc)
    failures: int = 0  # runs in a row that could not finish
    problem: str | None = Field(default=None, sa_type=Text)
    held: dict[str, Any] | None = Field(  # store.sources.Held
        default=None, sa_column=Column(JSON(none_as_null=True))
    )
    accepted: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    fresh_at: datetime | None = Field(default=None, sa_type=Utc)  # all of it was seen, from then on
    access_until: datetime | None = Field(default=None, sa_type=Utc)  # None: what it said holds
    created_at: datetime = Field(default_factory=now, sa_type=Utc)


class RunRow(SQLModel, table=True):
    __tablename__ = "run"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True)
    source_id: int = Field(foreign_key="source.id", ondelete="CASCADE", index=True)
    started_at: datetime = Field(sa_type=Utc)
    finished_at: datetime | None = Field(default=None, sa_type=Utc)
    outcome: str = "running"
    counts: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    problem: str | None = Field(default=None, sa_type=Text)


class OutcomeRow(SQLModel, table=True):
    """What became of a document in a run. A document that did not change has none."""

    __tablename__ = "outcome"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    run_id: int = Field(foreign_key="run.id", ondelete="CASCADE", index=True)
    kind: str
    uri: str = Field(sa_type=Text)
    title: str = Field(sa_type=Text)
    reason: str = Field(default="", sa_type=Text)


class AccessRow(SQLModel, table=True):
    """Who may read, once for all documents that share it. Rows never change."""

    __tablename__ = "access"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True, max_length=64)
    layers: str = Field(sa_type=Text)


class DocumentRow(SQLModel, table=True):
    __tablename__ = "document"
    __table_args__ = (UniqueConstraint("source_id", "uri_digest"),)

    id: str = Field(primary_key=True, max_length=32)
    source_id: int = Field(foreign_key="source.id")
    # of a file inside another; the access of the two is always the same
    parent_id: str | None = Field(
        default=None, foreign_key="document.id", index=True, max_length=32
    )
    holder: str | None = Field(default=None, sa_type=Text)  # what the parent is called
    inside: str | None = Field(default=None, sa_type=Text)  # the path in the parent
    # which file of the parent's bytes it is (`types.Child.at`), where it is one
    at: list[int] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    uri: str = Field(sa_type=Text)
    uri_digest: str = Field(max_length=64)  # a uri may be longer than an index can hold
    version: str = Field(sa_type=Text)  # as last tried
    # the text is of an earlier version, for the one last tried could not be read
    outdated: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    title: str = Field(sa_type=Text)
    own_title: str | None = Field(default=None, sa_type=Text)
    given_title: str | None = Field(default=None, sa_type=Text)  # its source's; None: `title` is
    in_force: date | None = None  # since when, as a person corrected it
    again: str | None = None  # a person wants it taken in again ("file"), or embedded ("title")
    again_at: datetime | None = Field(default=None, sa_type=Utc, index=True)  # from then on
    access_id: int = Field(foreign_key="access.id", index=True)
    status: str = Field(index=True)
    problem: str | None = Field(default=None, sa_type=Text)
    notes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    attempts: int = 0
    next_attempt_at: datetime | None = Field(default=None, sa_type=Utc)
    media_type: str | None = None
    size_bytes: int | None = Field(default=None, sa_type=BIG)
    digest: str | None = Field(  # of the bytes the text came from
        default=None, max_length=64, index=True
    )
    # how they were read, where the text is all that was made of them, as it was (`store/twins.py`)
    read_as: str | None = None
    embedder: str | None = None
    sizes: str | None = None  # of chunks and parents, as it was cut
    personal_data: str | None = None  # how personal data was handled when it was read
    modified_at: datetime = Field(sa_type=Utc)
    added_at: datetime = Field(default_factory=now, sa_type=Utc)
    updated_at: datetime = Field(default_factory=now, sa_type=Utc)


class WordingRow(SQLModel, table=True):
    """A text with all that holds for it wherever it stands, once for all documents that have it.

    Rows never change. The last document that lets go of one takes it along (`store/alike.py`).
    """

    __tablename__ = "wording"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    digest: bytes = Field(sa_type=LargeBinary, index=True)  # of all the rest
    text: str = Field(sa_type=Text)
    marks: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    pages: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    runs: bytes | None = Field(default=None, sa_type=LargeBinary)  # `text.where`
    # by page: what the file itself says where the text is what was read of a picture
    own: list[Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class BodyRow(SQLModel, table=True):
    """Which text a document has, apart: listing documents must not read it."""

    __tablename__ = "body"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    wording_id: int | None = Field(  # empty in no row: SQLite adds no other column
        default=None, foreign_key="wording.id", sa_type=BIG, index=True
    )


class HistoryRow(SQLModel, table=True):
    """What happened to a document, the latest of it."""

    __tablename__ = "history"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    document_id: str = Field(
        foreign_key="document.id", ondelete="CASCADE", index=True, max_length=32
    )
    at: datetime = Field(default_factory=now, sa_type=Utc)
    kind: str
    detail: str = Field(default="", sa_type=Text)
    actor: str = ""  # who did it, where it was a person


class EditionRow(SQLModel, table=True):
    """What a document says of its version: `text.versions.Edition`, and a sketch of its text."""

    __tablename__ = "edition"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    stem: str = Field(index=True, max_length=200)
    said: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    sketch: bytes = Field(default=b"", sa_type=LargeBinary)


class MetadataRow(SQLModel, table=True):
    """What a document says of itself, `types.Metadata`, and what it was read from beside the text."""

    __tablename__ = "metadata"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    said: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    own: list[Any] = Field(sa_column=Column(JSON, nullable=False))  # types.Properties
    confidentiality: str | None = None


class PersonalRow(SQLModel, table=True):
    """How much personal data of a kind a document holds; never the data."""

    __tablename__ = "personal"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    kind: str = Field(primary_key=True)
    count: int


class ScanRow(SQLModel, table=True):
    """A document with pages that are pictures. Its bytes lie in the data folder while it is open."""

    __tablename__ = "scan"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    digest: str = Field(index=True, max_length=64)  # of the bytes: other bytes, other pages
    open: bool = Field(default=True, index=True)  # pages wait, or their text does
    turn_at: datetime = Field(default_factory=now, sa_type=Utc)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Utc)


class ScanPageRow(SQLModel, table=True):
    __tablename__ = "scan_page"

    document_id: str = Field(
        primary_key=True, foreign_key="document.id", ondelete="CASCADE", max_length=32
    )
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})  # from 1
    state: str = Field(default="waiting", index=True)  # waiting, done or failed
    begun: int = 0  # how often: a worker that dies of a page ends that too
    failures: int = 0
    reason: str | None = Field(default=None, sa_type=Text)
    read: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    ended_at: datetime | None = Field(default=None, sa_type=Utc, index=True)


class PointRow(SQLModel, table=True):
    """A vector, once for all chunks that have it. Rows never change, and go like wordings."""

    __tablename__ = "point"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    digest: bytes = Field(sa_type=LargeBinary, index=True)  # of what was embedded, by what
    vector: bytes = Field(sa_type=LargeBinary)  # float32, little-endian


class ChunkRow(SQLModel, table=True):
    __tablename__ = "chunk"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    document_id: str = Field(
        foreign_key="document.id", ondelete="CASCADE", index=True, max_length=32
    )
    start: int
    end: int
    parent_start: int
    parent_end: int
    heading: str = Field(sa_type=Text)
    label: str = Field(sa_type=Text)  # the place a person opens: "p. 3 · 第12条"
    point_id: int | None = Field(  # likewise
        default=None, foreign_key="point.id", sa_type=BIG, index=True
    )


class VectorRow(SQLModel, table=True):
    """A chunk's vector of another embedder than its document's own (`store/spaces.py`)."""

    __tablename__ = "vector"

    chunk_id: int = Field(
        primary_key=True,
        foreign_key="chunk.id",
        ondelete="CASCADE",
        sa_type=BIG,
        sa_column_kwargs={"autoincrement": False},
    )
    space: str = Field(primary_key=True, max_length=100)
    vector: bytes = Field(sa_type=LargeBinary)  # float32, little-endian


class ChangeRow(SQLModel, table=True):
    """The change log: what an index must look at again."""

    __tablename__ = "change"
    __table_args__ = NEVER_REUSED

    sequence: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    document_id: str = Field(max_length=32)
    removed: bytes = Field(default=b"", sa_type=LargeBinary)  # chunk ids, int64, little-endian
    at: datetime = Field(default_factory=now, sa_type=Utc)


class UserRow(SQLModel, table=True):
    __tablename__ = "user"

    id: str = Field(primary_key=True)
    display_name: str
    role: str
    disabled: bool = False
    password_hash: str | None = None
    failures: int = 0  # wrong passwords in a row
    locked_until: datetime | None = Field(default=None, sa_type=Utc)
    created_at: datetime = Field(default_factory=now, sa_type=Utc)


class GroupRow(SQLModel, table=True):
    __tablename__ = "group"

    name: str = Field(primary_key=True)
    created_at: datetime = Field(default_factory=now, sa_type=Utc)


class MemberRow(SQLModel, table=True):
    __tablename__ = "member"

    group_name: str = Field(primary_key=True, foreign_key="group.name", ondelete="CASCADE")
    principal: str = Field(primary_key=True, index=True)  # "user:…" or "group:…"


class DirectoryRow(SQLModel, table=True):
    """Active Directory or LDAP, from which people and groups come."""

    __tablename__ = "directory"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    settings: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    enabled: bool = True
    wanted: bool = True  # look at it now, whatever `due_at` says
    due_at: datetime = Field(default_factory=now, sa_type=Utc)
    lease_owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=Utc)
    failures: int = 0
    problem: str | None = Field(default=None, sa_type=Text)
    held: dict[str, int] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    accepted: bool = False  # what is held may be applied
    last: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    fresh_at: datetime | None = Field(default=None, sa_type=Utc)  # all of it holds, as of then
    valid_until: datetime | None = Field(default=None, sa_type=Utc)  # nobody counts by it later
    created_at: datetime = Field(default_factory=now, sa_type=Utc)


class EntryRow(SQLModel, table=True):
    """A person or a group of a directory: `types.Listed`, and who that is here."""

    __tablename__ = "directory_entry"
    __table_args__ = (UniqueConstraint("directory_id", "guid"), NEVER_REUSED)

    id: int | None = Field(default=None, primary_key=True, sa_type=BIG)
    directory_id: int = Field(foreign_key="directory.id", ondelete="CASCADE")
    guid: str
    version: str = Field(sa_type=Text)
    kind: str
    dn: str = Field(sa_type=Text)
    node: str = Field(sa_type=Text)
    sid: str = Field(index=True)
    name: str
    upn: str
    mail: str
    title: str
    disabled: bool
    expires_at: datetime | None = Field(default=None, sa_type=Utc)
    principal: str | None = Field(default=None, index=True)  # "user:ito", "group:営業部"
    problem: str | None = Field(default=None, sa_type=Text)  # why it is nobody here
    suspended: bool = False  # its account here was switched off with it


class LinkRow(SQLModel, table=True):
    """Who is the one counts as the other, because an entry of a directory says so."""

    __tablename__ = "link"

    entry_id: int = Field(
        primary_key=True, foreign_key="directory_entry.id", ondelete="CASCADE", sa_type=BIG
    )
    principal: str = Field(primary_key=True, sa_type=Text, index=True)
    counts_as: str = Field(primary_key=True, sa_type=Text)
    directory_id: int = Field(foreign_key="directory.id", ondelete="CASCADE")
    own: bool = False  # says who the entry is here, rather than who is in it


class MappingRow(SQLModel, table=True):
    """What an administrator says: whom an entry ("entry:<guid>") or a name of a source means."""

    __tablename__ = "mapping"

    who: str = Field(primary_key=True)
    means: str = Field(index=True)  # "user:…", "group:…" or "nobody"
    created_at: datetime = Field(default_factory=now, sa_type=Utc)


class SessionRow(SQLModel, table=True):
    __tablename__ = "session"

    token_hash: str = Field(primary_key=True, max_length=64)
    user_id: str = Field(foreign_key="user.id", ondelete="CASCADE", index=True)
    csrf_token: str
    created_at: datetime = Field(default_factory=now, sa_type=Utc)
    seen_at: datetime = Field(default_factory=now, sa_type=Utc)
    expires_at: datetime = Field(sa_type=Utc)


class TryRow(SQLModel, table=True):
    """Wrong passwords of somebody from somewhere, or (none counted) where an account is known."""

    __tablename__ = "try"

    key: str = Field(primary_key=True, max_length=64)
    account: str = Field(index=True, max_length=64)
    failures: int = 0
    locks: int = 0
    since: datetime = Field(sa_type=Utc)
    locked_until: datetime | None = Field(default=None, sa_type=Utc)
    expires_at: datetime = Field(sa_type=Utc, index=True)


class KeyRow(SQLModel, table=True):
    __tablename__ = "api_key"
    __table_args__ = NEVER_REUSED

    id: int | None = Field(default=None, primary_key=True)
    name: str
    token_hash: str = Field(unique=True, max_length=64)
    user_id: str = Field(foreign_key="user.id", ondelete="CASCADE", index=True)
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_by: str
    created_at: datetime = Field(default_factory=now, sa_type=Utc)
    expires_at: datetime | None = Field(default=None, sa_type=Utc)
    last_used_at: datetime | None = Field(default=None, sa_type=Utc)
    revoked_at: datetime | None = Field(default=None, sa_type=Utc)


class ConversationRow(SQLModel, table=True):
    __tablename__ = "conversation"

    id: str = Field(primary_key=True, max_length=32)
    user_id: str = Field(foreign_key="user.id", ondelete="CASCADE", index=True)
    title: str = Field(sa_type=Text)
    created_at: datetime = Field(default_factory=now, sa_type=Utc)
    updated_at: datetime = Field(default_factory=now, sa_type=Utc)


class MessageRow(SQLModel, table=True):
    """One exchange. It points at what was cited and never holds its text."""

    __tablename__ = "message"

    id: str = Field(primary_key=True, max_length=32)
    conversation_id: str = Field(
        foreign_key="conversation.id", ondelete="CASCADE", index=True, max_length=32
    )
    position: int
    question: str = Field(sa_type=Text)
    searched: str = Field(sa_type=Text)
    answer: str = Field(sa_type=Text)
    ended: str
    dangling: int = 0
    passages: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    citations: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    statements: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    near: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    conflicts: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    audit_id: int | None = Field(default=None, sa_type=BIG)
    rating: int = 0
    comment: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=now, sa_type=Utc)
    alive_until: datetime | None = Field(default=None, sa_type=Utc)  # being answered; put on


class AuditRow(SQLModel, table=True):
    """The audit chain. `at` and `detail` are text so that they hash as they are kept."""

    __tablename__ = "audit"

    sequence: int = Field(primary_key=True, sa_type=BIG, sa_column_kwargs={"autoincrement": False})
    at: str
    actor: str = Field(index=True)
    action: str = Field(index=True)
    detail: str = Field(sa_type=Text)
    previous: str = Field(max_length=64)
    digest: str = Field(max_length=64)


class SiteRow(SQLModel, table=True):
    __tablename__ = "site"

    key: str = Field(primary_key=True)
    value: str = Field(sa_type=Text)
