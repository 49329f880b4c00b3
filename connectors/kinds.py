"""Where documents come from. A new source is one file and one line here."""

from __future__ import annotations

from connectors.backlog import BacklogConnector
from connectors.box import BoxConnector
from connectors.confluence import ConfluenceConnector
from connectors.dokuwiki import DokuWikiConnector
from connectors.example import ExampleConnector
from connectors.feed import FeedConnector
from connectors.folder import FolderConnector
from connectors.garoon import GaroonConnector
from connectors.gdrive import GDriveConnector
from connectors.git import GitConnector
from connectors.gitlab import GitLabConnector
from connectors.imap import ImapConnector
from connectors.kintone import KintoneConnector
from connectors.langchain import LangchainConnector
from connectors.mediawiki import MediaWikiConnector
from connectors.notion import NotionConnector
from connectors.redmine import RedmineConnector
from connectors.s3 import S3Connector
from connectors.sftp import SftpConnector
from connectors.sharepoint import SharePointConnector
from connectors.sharepoint_server import SharePointServerConnector
from connectors.slack import SlackConnector
from connectors.smb import SmbConnector
from connectors.sql import SqlConnector
from connectors.uploads import UploadsConnector
from connectors.web import WebConnector
from connectors.webdav import WebDavConnector
from connectors.wordpress import WordPressConnector

CONNECTORS = (
    FolderConnector,
    SmbConnector,
    WebDavConnector,
    WordPressConnector,
    BoxConnector,
    GDriveConnector,
    SharePointConnector,
    SharePointServerConnector,
    KintoneConnector,
    GaroonConnector,
    BacklogConnector,
    ConfluenceConnector,
    MediaWikiConnector,
    DokuWikiConnector,
    RedmineConnector,
    GitLabConnector,
    SlackConnector,
    NotionConnector,
    S3Connector,
    SftpConnector,
    ImapConnector,
    WebConnector,
    FeedConnector,
    LangchainConnector,
    SqlConnector,
    GitConnector,
    UploadsConnector,
    ExampleConnector,
)
