"""Everything that can go wrong, as a tree. The class says what to do next.

* ApplianceError
  x Transient            worth trying again; `retry_after_s` says when
    - SourceUnreachable  the source did not answer
    - SourceBusy         the file is being written, or the source asks us to slow down
    - ModelBusy          the queue before the models is full
    - ModelUnreachable   `kura infer` does not answer (starting, or died)
    - NotReady           the appliance is still loading its indexes
    - Closed             maintenance: only administrators may come in
  x Permanent            trying again changes nothing; tell a person
    - SourceDenied       the account may not read this
    - SourceMisconfigured  a setting of the source is wrong
    - Unreadable         this file cannot be parsed; `reason` says why, for a person
    - PasswordNeeded     the file is encrypted
    - TooLarge           over a limit; the message says which
    - PromptTooLong      the question does not fit the model
    - BadRequest         the caller sent something the service does not take
    - DigestMismatch     a file is not the one whose digest we know
    - ModelFileInvalid   a model file is damaged, or not of a kind we load
    - SettingsError      a setting cannot be used; the message names it
    - BackupProblem      a backup cannot be made, or not be used
  x NotVisible           absent, or hidden from this viewer: the same answer for both
  x NotSignedIn          no valid session, key or password
  x NotAllowed           signed in, but the role does not permit it
  x TooManyAttempts      locked out or rate-limited; `retry_after_s` says for how long
  x Conflict             somebody else did it first

Messages are for people: who, what, where, and what the administrator can do.
"""

from __future__ import annotations

import errno


class ApplianceError(Exception):
    """Root of the tree. `str(error)` is one sentence a person can act on."""


class Transient(ApplianceError):
    def __init__(self, message: str = "", retry_after_s: float = 30.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceUnreachable(Transient): ...


class SourceBusy(Transient): ...


class ModelBusy(Transient):
    def __init__(self, message: str = "", retry_after_s: float = 2.0) -> None:
        super().__init__(message, retry_after_s)


class ModelUnreachable(Transient):
    def __init__(self, message: str = "", retry_after_s: float = 5.0) -> None:
        super().__init__(message, retry_after_s)


class NotReady(Transient):
    def __init__(self, message: str = "", retry_after_s: float = 2.0) -> None:
        super().__init__(message, retry_after_s)


class Closed(Transient):
    def __init__(self, message: str = "", retry_after_s: float = 600.0) -> None:
        super().__init__(message, retry_after_s)


class Permanent(ApplianceError): ...


class SourceDenied(Permanent): ...


class SourceMisconfigured(Permanent): ...


class Unreadable(Permanent): ...


class PasswordNeeded(Unreadable): ...


class TooLarge(Permanent): ...


class PromptTooLong(Permanent):
    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt has {tokens} tokens, the model reads {limit}")
        self.tokens = tokens
        self.limit = limit


class BadRequest(Permanent): ...


class DigestMismatch(Permanent): ...


class ModelFileInvalid(Permanent): ...


class SettingsError(Permanent): ...


class BackupProblem(Permanent): ...


class NotVisible(ApplianceError): ...


class NotSignedIn(ApplianceError): ...


class NotAllowed(ApplianceError): ...


class TooManyAttempts(ApplianceError):
    def __init__(self, message: str = "", retry_after_s: float = 60.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(ApplianceError): ...


def no_room(error: BaseException, folder: str) -> NotReady | None:
    """Of our own disk, which no file and no source is to blame for: the next would fail too."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return NotReady(
        f"このマシンの {folder} に空きがなく、ファイルを写せません。"
        "空けるか、ディスクを足してください。続きは次の確認で取り込みます。"
    )
