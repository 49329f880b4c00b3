"""One table: error class → status and what people read. Nobody is ever shown a stack trace.

The first row whose class fits is the answer, so children come before parents.
Where `says` is true the error's own sentence is added as `detail`; elsewhere it
stays in the log, because it might tell a stranger something.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from appliance import errors as e
from appliance.errors import BadRequest

log = logging.getLogger("kura.api")


@dataclass(frozen=True, slots=True)
class Row:
    kind: type[Exception]
    status: int
    message: str
    message_en: str
    says: bool = False


TABLE = (
    Row(
        e.NotSignedIn,
        401,
        "サインインしてください。ユーザー ID・パスワード・キーのいずれかが正しくないか、期限が切れています。",
        "Sign in. The user ID, password or key is wrong, or has expired.",
    ),
    Row(e.NotAllowed, 403, "この操作は許可されていません。", "You may not do this."),
    Row(e.NotVisible, 404, "見つかりません。", "Not found."),
    Row(
        e.Conflict,
        409,
        "ほかの変更と重なりました。最新の状態を確かめてください。",
        "Somebody else changed this first. Look at the latest state.",
        True,
    ),
    Row(e.TooLarge, 413, "大きすぎるため受け取れません。", "Too large to accept.", True),
    Row(
        e.PromptTooLong,
        413,
        "質問が長すぎます。短くして、もう一度お試しください。",
        "The question is too long. Shorten it and try again.",
    ),
    Row(e.BadRequest, 400, "入力が正しくありません。", "The request is not valid.", True),
    Row(
        e.TooManyAttempts,
        429,
        "試行回数が多すぎます。しばらく待ってから、もう一度お試しください。",
        "Too many attempts. Wait a while and try again.",
    ),
    Row(
        e.ModelBusy,
        429,
        "ただいま混み合っています。少し待ってから、もう一度お試しください。",
        "The model is busy. Wait a moment and try again.",
    ),
    Row(
        e.ModelUnreachable,
        503,
        "回答用のモデルに接続できません。自動で復旧しますので、少し待ってからもう一度お試しください。",
        "The model does not answer. It restarts by itself: try again in a moment.",
    ),
    Row(
        e.NotReady,
        503,
        "準備中です。少し待ってから、もう一度お試しください。",
        "Still starting. Try again in a moment.",
    ),
    Row(
        e.Closed,
        503,
        "メンテナンス中のため、いまは使えません。",
        "Closed for maintenance.",
        True,
    ),
    Row(
        e.PasswordNeeded,
        422,
        "パスワードで保護されたファイルは読み取れません。",
        "The file is protected by a password.",
    ),
    Row(e.Unreadable, 422, "ファイルを読み取れません。", "The file cannot be read.", True),
    Row(
        e.SourceMisconfigured,
        422,
        "情報源の設定が正しくありません。",
        "A setting of the source is wrong.",
        True,
    ),
    Row(
        e.SourceDenied,
        422,
        "情報源を読む権限がありません。",
        "The source may not be read.",
        True,
    ),
    Row(
        e.Transient,
        503,
        "いまは応答できません。しばらくしてから、もう一度お試しください。",
        "Not available right now. Try again later.",
        True,
    ),
    Row(e.Permanent, 422, "この要求は処理できません。", "This cannot be done.", True),
)
INTERNAL = Row(
    Exception,
    500,
    "内部エラーが起きました。管理者に受付番号をお伝えください。",
    "Something went wrong inside. Tell the administrator the request id.",
)


def row(error: Exception) -> Row:
    return next((r for r in TABLE if isinstance(error, r.kind)), INTERNAL)


def body(error: Exception, request_id: str) -> dict[str, object]:
    """What a person is told; the same for the JSON body and for an SSE `error` event."""
    found = row(error)
    name = "InternalError" if found is INTERNAL else type(error).__name__
    out: dict[str, object] = {
        "error": name,
        "message": found.message,
        "message_en": found.message_en,
        "request_id": request_id,
    }
    if found.says and str(error):
        out["detail"] = str(error)
    if isinstance(error, e.Transient | e.TooManyAttempts):
        out["retry_after_s"] = round(error.retry_after_s, 1)
    return out


def openai_body(error: Exception, request_id: str) -> dict[str, object]:
    """The same in the form that clients of /v1 look for it."""
    told = body(error, request_id)
    message = f"{told['message']} {told.get('detail', '')}".strip()
    return {
        "error": {"message": message, "type": told["error"], "code": told["error"], "param": None}
    }


def response(error: Exception, request_id: str, path: str = "") -> Response:
    headers = {}
    if isinstance(error, e.Transient | e.TooManyAttempts):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, e.NotSignedIn):
        headers["WWW-Authenticate"] = 'Bearer realm="kura"'
    told = openai_body if path.startswith("/v1/") else body
    return JSONResponse(told(error, request_id), row(error).status, headers)


def request_id(request: Request) -> str:
    return str(request.scope.get("kura.request_id", ""))


def report(error: Exception, request_id: str) -> None:
    """What the table does not expect goes to the log, with its stack."""
    if row(error) is INTERNAL:
        log.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id}})


def install(app: FastAPI) -> None:
    @app.exception_handler(e.ApplianceError)
    def refused(request: Request, error: e.ApplianceError) -> Response:
        report(error, request_id(request))
        return response(error, request_id(request), request.url.path)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        told = response(BadRequest(_first(error)), request_id(request), request.url.path)
        told.status_code = 422
        return told

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, e.ApplianceError):  # met while reading the body
            return response(error.__cause__, request_id(request), request.url.path)
        known: dict[int, Exception] = {
            401: e.NotSignedIn(),
            403: e.NotAllowed(),
            404: e.NotVisible(),
            405: e.NotVisible(),
            413: e.TooLarge(),
        }
        said = error if error.status_code >= 500 else known.get(error.status_code, BadRequest())
        return response(said, request_id(request), request.url.path)


def _first(error: RequestValidationError) -> str:
    """The first thing wrong, as one sentence; never the value, which may be a password."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem.get("loc", ()) if part not in ("body", "query"))
    said = str(problem.get("msg", "")).removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
