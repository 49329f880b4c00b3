"""A Redmine of its own: Debian's, behind WEBrick, its database and files in one folder.

What its users would do in the browser is said in Ruby, and done in the server itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.types import Site
from connectors.redmine import RedmineConnector, RedmineSettings
from tests import ports

ROOT = Path("/usr/share/redmine")
START_S = 600  # where others compute beside it
_SERVER = """
require "webrick"  # before Bundler, which would not find it
require "/usr/share/redmine/config/environment"
require "rack/handler/webrick"
Rails.logger.level = 3
ActiveRecord::Migration.verbose = false
# nobody waits for a disk, and no mail is written beside what is asked
ActiveRecord::ConnectionAdapters::SQLite3Adapter.prepend(Module.new do
  def configure_connection
    super
    execute("PRAGMA synchronous = OFF")
  end
end)
ActiveRecord::Base.establish_connection
silent = Object.new
def silent.enqueue(*) = nil
def silent.enqueue_at(*) = nil
ActiveJob::Base.queue_adapter = silent
Dir.chdir("/usr/share/redmine") { ActiveRecord::Base.connection.migration_context.migrate }
ActiveRecord::Base.descendants.each(&:reset_column_information)
Redmine::DefaultData::Loader.load("ja")
User.find_by_login("admin").update_columns(must_change_passwd: false)
said = lambda do |env|
  next Rails.application.call(env) unless env["PATH_INFO"] == "/do"
  begin
    User.current = User.find_by_login("admin")
    value = eval(env["rack.input"].read.force_encoding("UTF-8"))
    [200, {}, [JSON.generate([value])]]
  rescue StandardError, SyntaxError => error
    [500, {}, ["#{error.class}: #{error.message}\\n#{error.backtrace.first(5).join("\\n")}"]]
  ensure
    User.current = nil
  end
end
WEBrick::HTTPServer.prepend(Module.new do
  def run(socket)
    socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    super
  end
end)
quiet = WEBrick::Log.new(nil, WEBrick::Log::FATAL)
Rack::Handler::WEBrick.run(said, Host: "127.0.0.1", Port: ARGV[0].to_i, Logger: quiet, AccessLog: [])
"""
_EMPTY = """
Project.where(parent_id: nil).to_a.each(&:destroy)
(User.where(admin: false, type: "User").to_a + Group.givable.to_a).each(&:destroy)
CustomField.destroy_all
Role.givable.where.not(id: [3, 4, 5]).destroy_all
{3 => "all", 4 => "default", 5 => "own"}.each do |id, visibility|
  role = Role.find(id)
  role.issues_visibility = visibility
  role.permissions |= [:view_issues, :view_wiki_pages, :view_files, :view_private_notes]
  role.set_permission_trackers(:view_issues, :all)
  role.save!
end
Setting.rest_api_enabled = "1"
Setting.text_formatting = "textile"
Setting.issue_group_assignment = "1"
$user = lambda do |login, admin = false|
  one = User.new(firstname: login, lastname: "様", mail: "#{login}@example.co.jp", language: "ja")
  one.login, one.password, one.admin = login, "himitsu-0451", admin
  one.save!
  one
end
$member = lambda do |project, who, *roles|
  Member.create!(project: project, principal: who, role_ids: roles)
end
$issue = lambda do |project, subject, more = {}|
  base = {project: project, subject: subject, tracker_id: 1, priority: IssuePriority.first}
  Issue.create!(base.merge(status_id: 1, author: User.find_by_login("admin")).merge(more))
end
$attach = lambda do |container, name, text|
  file = StringIO.new(text)
  file.define_singleton_method(:original_filename) { name }
  file.define_singleton_method(:content_type) { "text/plain" }
  Attachment.create!(container: container, file: file, author: User.find_by_login("admin"))
end
$page = lambda do |project, title, text|
  page = project.wiki.find_or_new_page(title)
  content = page.content || WikiContent.new(page: page)
  content.text, content.author, content.comments = text, User.find_by_login("admin"), ""
  page.new_record? ? page.save_with_content(content) : content.save!
  page.reload
end
$at = lambda do |issue, notes, more = {}|
  issue = Issue.find(issue.id)
  issue.init_journal(User.find_by_login("admin"), notes)
  issue.update!(more)
end
shop = Project.create!(name: "営業の棚", identifier: "eigyo", is_public: false,
  enabled_module_names: %w[issue_tracking wiki files], tracker_ids: [1, 2, 3])
Wiki.create!(project: shop, start_page: "Wiki") unless shop.reload.wiki
shop.id
"""


class Redmine:
    """The server; `do` says something in Ruby and gives what it comes to."""

    def __init__(self, folder: Path) -> None:
        for part in ("config", "files", "log", "tmp/cache", "public/plugin_assets"):
            (folder / part).mkdir(parents=True)
        (folder / "config/database.yml").write_text(
            f"production:\n  adapter: sqlite3\n  database: {folder}/redmine.db\n  timeout: 20000\n"
        )
        (folder / "config/secret_key.txt").write_text(os.urandom(64).hex())
        (folder / "server.rb").write_text(_SERVER, "utf-8")
        self.port = ports.free()
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TZ": "Asia/Tokyo",
            "RAILS_ENV": "production",
            "BUNDLE_GEMFILE": str(ROOT / "Gemfile"),
            # a place below /usr/share/redmine/instances, which is a link to one in /var/lib
            "REDMINE_INSTANCE": f"../../../..{folder.resolve()}",
        }
        with (folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                ["ruby", folder / "server.rb", str(self.port)],
                cwd=ROOT,
                env=env,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                raise RuntimeError((folder / "out").read_text("utf-8", "replace")[-3000:])
            time.sleep(0.2)
        self.key = self.do("User.find_by_login('admin').api_key")

    def _answers(self) -> bool:
        try:
            return bool(self.do("true"))
        except OSError:
            return False

    def do(self, ruby: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/do"
        try:
            with urllib.request.urlopen(url, ruby.encode(), timeout=60) as answer:
                return json.load(answer)[0]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode("utf-8", "replace")) from None

    def empty(self) -> None:
        """As on its first day, with one project, `eigyo`."""
        self.do(_EMPTY)

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.near}"

    def connector(self, **more: object) -> RedmineConnector:
        settings: dict[str, object] = {"url": self.url, "api_key": self.key, "projects": ["eigyo"]}
        site = Site(near=frozenset({self.near}))
        return RedmineConnector(RedmineSettings.model_validate(settings | more), site)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redmine]:
    one = Redmine(tmp_path_factory.mktemp("redmine"))
    yield one
    one.close()


@pytest.fixture
def redmine(server: Redmine) -> Redmine:
    server.empty()
    return server
