"""Where documents come from. A new source is one file and one line here."""

from __future__ import annotations

from connectors.example import ExampleConnector
from connectors.folder import FolderConnector
from connectors.smb import SmbConnector
from connectors.uploads import UploadsConnector
from connectors.webdav import WebDavConnector

CONNECTORS = (FolderConnector, SmbConnector, WebDavConnector, UploadsConnector, ExampleConnector)
