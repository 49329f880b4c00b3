"""The systemd units: each process with what it needs of the machine, and walls around it.

One user, `kura`, owns the data. Each process has a group of its own, by which the firewall tells
them apart: a group is known before a process starts and is the same after each restart, which the
number of a cgroup is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from installer.places import Places

PROCESSES = ("infer", "web", "work")
TARGET, FIREWALL = "kura.target", "kura-firewall.service"
RECOVER = "kura-recover.service"

Options = Mapping[str, str]

COMMON: Options = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "DevicePolicy": "closed",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RemoveIPC": "yes",
    "LockPersonality": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
    "LimitCORE": "0",  # what it holds in memory never lies on a disk
}
_ORDINARY = "@system-service"
# a group of their own only in newer systemd
_SANDBOX = "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"
_NEVER = "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"


@dataclass(frozen=True)
class Site:
    """What of the site's answers the units depend on."""

    places: Places
    port: int = 443
    clients: tuple[str, ...] = ()  # networks that people come from
    reach: Mapping[str, tuple[str, ...]] | None = None  # process -> networks it may talk to
    gpu: bool = False
    sealed: bool = False
    backups: str = ""  # folder that `work` puts them into


def texts(site: Site) -> dict[str, str]:
    """Name of each unit -> its content."""
    found = {f"kura-{name}.service": _service(site, name) for name in PROCESSES}
    found[FIREWALL] = _firewall(site.places)
    found[RECOVER] = _recover(site.places)
    found[TARGET] = _unit(
        {
            "Unit": [
                ("Description", "Kura (蔵)"),
                ("Wants", " ".join(f"kura-{name}.service" for name in PROCESSES)),
            ],
            "Install": [("WantedBy", "multi-user.target")],
        }
    )
    return found


def _service(site: Site, name: str) -> str:
    places = site.places
    reach = (site.reach or {}).get(name, ())
    own: dict[str, dict[str, str]] = {
        # It computes. It has a socket in the data folder, and no network to have another in.
        "infer": {
            "PrivateNetwork": "yes",
            "IPAddressDeny": "any",
            "RestrictAddressFamilies": "AF_UNIX",
            "RestrictNamespaces": "yes",
            "PrivateUsers": "yes",
            # it gives its turns by priorities, and takes the cores that it was given
            "SystemCallFilter": f"{_ORDINARY}\nSystemCallFilter={_NEVER}",
        },
        "web": {
            "IPAddressDeny": "any",
            "IPAddressAllow": " ".join(("localhost", *site.clients, *_networks(reach))),
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
            "RestrictNamespaces": "yes",
            "SystemCallFilter": f"{_ORDINARY}\nSystemCallFilter={_NEVER}",
        },
        # Its parsers take a user, network and IPC namespace, Landlock and a filter of their own,
        # and drop capabilities that they have in their namespace alone: appliance/formats/confine.py
        "work": {
            "IPAddressDeny": "any",
            "IPAddressAllow": " ".join(("localhost", *_networks(reach))),
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
            "RestrictNamespaces": "user net ipc",
            "SystemCallFilter": f"{_ORDINARY} {_SANDBOX}\nSystemCallFilter={_NEVER}",
        },
    }
    options = {**COMMON, **own[name]}
    if name == "web" and site.port < 1024:
        options |= {
            "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
            "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
        }
    if name != "infer" and site.sealed:  # by whose sockets others would be asked for names
        options |= {"InaccessiblePaths": "-/run/systemd/resolve -/run/nscd"}
    if name == "infer" and site.gpu:
        options |= {
            "PrivateDevices": "no",
            "DeviceAllow": "char-nvidia* rw\nDeviceAllow=char-nvidia-uvm rw",
        }
    threads = "" if name == "infer" else "1"
    return _unit(
        {
            "Unit": [
                ("Description", f"Kura (蔵): {name}"),
                ("PartOf", TARGET),
                ("Requires", FIREWALL),
                # after the target, so that stopping it is over when they have stopped
                (
                    "After",
                    f"{TARGET} {FIREWALL} network.target"
                    f"{' kura-infer.service' if name == 'work' else ''}",
                ),
                ("StartLimitIntervalSec", "0"),
            ],
            "Service": [
                ("User", "kura"),
                ("Group", f"kura-{name}"),
                ("EnvironmentFile", str(places.settings)),
                ("Environment", "PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1"),
                ("Environment", "OMP_WAIT_POLICY=passive MALLOC_ARENA_MAX=2"),
                *([("Environment", f"OMP_NUM_THREADS={threads}")] if threads else []),
                ("WorkingDirectory", str(places.data)),
                ("ExecStart", f"{places.current}/venv/bin/kura {name}"),
                ("KillMode", "mixed"),  # each ends its own children
                ("Restart", "always"),
                ("RestartSec", "2"),
                ("RestartPreventExitStatus", "78"),  # starting again changes nothing
                ("TimeoutStartSec", "300"),
                ("TimeoutStopSec", "30" if name == "work" else "15"),
                ("ReadWritePaths", str(places.data)),
                # a disk that is not there today keeps nobody from working
                *(
                    [("ReadWritePaths", f"-{site.backups}")]
                    if name == "work" and site.backups
                    else []
                ),
                *options.items(),
            ],
            "Install": [("WantedBy", TARGET)],
        }
    )


def _firewall(places: Places) -> str:
    """Loaded before any of the processes; stopping it takes nothing away."""
    options = {
        **COMMON,
        "CapabilityBoundingSet": "CAP_NET_ADMIN",
        "RestrictAddressFamilies": "AF_NETLINK AF_UNIX",
        "RestrictNamespaces": "yes",
        "MemoryDenyWriteExecute": "yes",
        "IPAddressDeny": "any",
        "SystemCallFilter": f"{_ORDINARY}\nSystemCallFilter={_NEVER}",
    }
    return _unit(
        {
            "Unit": [
                ("Description", "Kura (蔵): firewall"),
                ("Before", "network-pre.target"),
                ("Wants", "network-pre.target"),
                ("DefaultDependencies", "no"),
                ("After", "local-fs.target"),
                ("Conflicts", "shutdown.target"),
            ],
            "Service": [
                ("Type", "oneshot"),
                ("RemainAfterExit", "yes"),
                ("ExecStart", f"/usr/sbin/nft -f {places.firewall}"),
                ("ExecReload", f"/usr/sbin/nft -f {places.firewall}"),
                *options.items(),
            ],
            "Install": [("WantedBy", TARGET)],
        }
    )


def _recover(places: Places) -> str:
    """After a power cut in an upgrade: the moves end before any of the processes starts."""
    return _unit(
        {
            "Unit": [
                ("Description", "Kura (蔵): end an upgrade that was cut off"),
                ("ConditionPathExists", str(places.state / "switch.json")),
                ("Before", " ".join(f"kura-{name}.service" for name in PROCESSES)),
                ("After", "local-fs.target"),
            ],
            "Service": [
                ("Type", "oneshot"),
                ("ExecStart", f"{places.commands / 'kura-installer'} recover --boot"),
                ("NoNewPrivileges", "yes"),
                ("PrivateNetwork", "yes"),
                ("ProtectHome", "yes"),
                ("PrivateTmp", "yes"),
                ("ProtectKernelModules", "yes"),
                ("ProtectKernelTunables", "yes"),
            ],
            "Install": [("WantedBy", TARGET)],
        }
    )


def _networks(reach: tuple[str, ...]) -> tuple[str, ...]:
    """Without the ports: systemd's filter knows none, the firewall's does."""
    from installer.deploy.answers import split

    return tuple(dict.fromkeys(split(one)[0] for one in reach))


def _unit(sections: Mapping[str, list[tuple[str, str]]]) -> str:
    lines = ["# written by kura-installer; changes belong into a drop-in: systemctl edit UNIT"]
    for name, pairs in sections.items():
        lines += ["", f"[{name}]", *(f"{key}={value}" for key, value in pairs)]
    return "\n".join(lines) + "\n"


def write_into(folder: Path, site: Site) -> None:
    """For a look at them (`systemd-analyze security --offline=true`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(site).items():
        (folder / name).write_text(text, "utf-8")
