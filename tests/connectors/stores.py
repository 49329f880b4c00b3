"""A store that speaks S3 (moto)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from moto.backends import get_backend
from moto.core import authorization
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from appliance.types import Site
from connectors.s3 import S3Connector, S3Settings

ACCOUNT = "123456789012"
BUCKET = "shiryo"
SECRET = "himitsu+kagi/0451"


class Store:
    """One bucket, in this process; what is put and taken away is what the server tells of."""

    kind, missing = "s3", "/shiryo/ がありません"

    def __init__(self) -> None:
        app = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, app, True, request_handler=MotoRequestHandler)
        self.port = self.server.port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self._s3 = get_backend("s3")[ACCOUNT]["aws"]
        self._s3.create_bucket(BUCKET, "us-east-1")

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, key: str, data: bytes | str) -> None:
        self._s3.put_object(BUCKET, key, data.encode() if isinstance(data, str) else data)

    def delete(self, key: str) -> None:
        self._s3.delete_object(BUCKET, key)

    def move(self, key: str, to: str) -> None:
        self.put(to, self._s3.get_object(BUCKET, key).value)
        self.delete(key)

    def take_away(self) -> None:
        for key in list(self._s3.get_bucket(BUCKET).keys):
            self.delete(key)
        self._s3.delete_bucket(BUCKET)

    @property
    def settings(self) -> dict[str, object]:
        return {
            "endpoint": f"http://{self.near}",
            "bucket": BUCKET,
            "access_key_id": "AKIAKURA",
            "secret_access_key": SECRET,
            "allow": ["group:営業部"],
        }

    def connector(self, **more: object) -> S3Connector:
        site = Site(near=frozenset({self.near}))
        return S3Connector(S3Settings.model_validate(self.settings | more), site)

    @contextmanager
    def guarded(self, *actions: str) -> Iterator[dict[str, str]]:
        """From here on signatures and rights are checked. Gives the keys of one who may `actions`."""
        iam = get_backend("iam")[ACCOUNT]["aws"]
        iam.create_user("us-east-1", "kura")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}],
        }
        iam.put_user_policy("kura", "read", json.dumps(policy))
        key = iam.create_access_key("kura")
        with authorization.enable_iam_authentication():
            yield {"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key}

    def close(self) -> None:
        self.server.shutdown()  # twice is once
        self.thread.join()
        for name in ("s3", "iam"):
            get_backend(name).reset()
