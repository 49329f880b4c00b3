"""A real WordPress (Debian's) on PHP's own server, its database in a MariaDB of the tests."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from appliance.types import Site
from connectors.http import basic
from connectors.wordpress import WordPressConnector, WordPressSettings
from tests.connectors.mariadbs import MariaDb
from tests.connectors.wikis import Served

PROGRAM = Path("/usr/share/wordpress")
ADMIN = "himitsu-0451-kanrisha"
_CONFIG = """<?php
define('DB_NAME', '{name}'); define('DB_USER', 'root'); define('DB_PASSWORD', '');
define('DB_HOST', 'localhost:{socket}'); define('DB_CHARSET', 'utf8mb4'); define('DB_COLLATE', '');
define('WP_ENVIRONMENT_TYPE', 'local'); define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true); define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_HOME', 'http://127.0.0.1:{port}/w'); define('WP_SITEURL', 'http://127.0.0.1:{port}/w');
$table_prefix = 'wp_';
if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/');
require_once ABSPATH . 'wp-settings.php';
"""
_INSTALL = """<?php
define('WP_INSTALLING', true); $_SERVER['HTTP_HOST'] = '127.0.0.1';
require '{at}/wp-load.php'; require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('社内ポータル', 'kanri', 'kanri@example.co.jp', true, '', '{admin}');
wp_insert_user(['user_login' => 'yomu', 'user_pass' => '{admin}-2', 'role' => 'editor', 'user_email' => 'y@example.co.jp']);
wp_insert_user(['user_login' => 'daremo', 'user_pass' => '{admin}-3', 'role' => 'subscriber', 'user_email' => 'd@example.co.jp']);
$made = [];
foreach (['kanri', 'yomu', 'daremo'] as $name) {{
  $one = get_user_by('login', $name);
  $made[$name] = WP_Application_Passwords::create_new_application_password($one->ID, ['name' => 'kura'])[0];
}}
foreach (get_posts(['post_type' => 'any', 'post_status' => 'any', 'numberposts' => -1]) as $p) wp_delete_post($p->ID, true);
echo "\\n", json_encode($made);
"""


class WordPress(Served):
    """A site that its administrator, kanri, writes; yomu is an editor, daremo may only read."""

    kind, missing = "wordpress", "REST API がありません"

    def __init__(self, folder: Path, database: MariaDb) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"wp_{database.port}_{len(list(folder.parent.iterdir()))}"
        database.execute(f"CREATE DATABASE {name}", "mysql")
        self.program, self._database, self._name = folder / "wordpress", database, name
        shutil.copytree(PROGRAM, self.program, ignore=shutil.ignore_patterns("wp-config.php"))
        super().__init__(folder, self.program, {"WP_X": "1"})
        config = _CONFIG.format(name=name, socket=database.folder / "sock", port=self.port)
        (self.program / "wp-config.php").write_text(config)
        script = folder / "install.php"
        script.write_text(_INSTALL.format(at=self.program, admin=ADMIN))
        done = subprocess.run(["php", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.passwords: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
        self.url = f"http://{self.near}/w/"
        self.http = httpx2.Client(
            timeout=60,
            trust_env=False,
            headers={"Authorization": basic("kanri", self.passwords["kanri"])},
        )

    def ask(self, method: str, route: str, **more: Any) -> Any:
        said = self.http.request(method, f"{self.url}index.php?rest_route=/wp/v2/{route}", **more)
        assert said.is_success, said.text
        return said.json()

    def post(self, title: str, content: str, kind: str = "posts", **more: object) -> str:
        body = {"title": title, "content": content, "status": "publish", **more}
        return f"{kind}/{self.ask('POST', kind, json=body)['id']}"

    def change(self, uri: str, **more: object) -> None:
        self.ask("POST", uri, json=more)

    def delete(self, uri: str) -> None:
        kind, number, *_ = uri.split("/")
        self.ask("DELETE", f"{kind}/{number}&force=true")

    def clear(self) -> None:
        """No post, page or file is left; one by one that takes a request each."""
        for table in ("wp_posts", "wp_postmeta", "wp_term_relationships"):
            self._database.execute(f"DELETE FROM {table}", self._name)

    def upload(self, name: str, data: bytes, parent: str = "") -> str:
        said = self.ask(
            "POST",
            "media",
            files={"file": (name, data, "text/plain")},
            data={"title": Path(name).stem, **({"post": parent.split("/")[1]} if parent else {})},
        )
        return f"media/{said['id']}/{said['source_url'].rpartition('/')[2]}"

    def close(self) -> None:
        self.http.close()
        super().close()

    def connector(self, user: str = "yomu", **more: object) -> WordPressConnector:
        own = {
            "url": self.url,
            "user": user,
            "password": self.passwords.get(user, ""),
            "allow": ["group:社員"],
        }
        settings = WordPressSettings.model_validate(own | more)
        return WordPressConnector(settings, Site(near=frozenset({self.near})))
