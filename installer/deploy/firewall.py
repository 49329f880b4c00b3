"""The firewall: nothing of Kura's reaches anything that the site has not named, each process by itself.

nftables, a table of our own, so nothing of the site's rules is touched. What is refused is counted
by process. Rules of the site's that come later may refuse more; none can allow more, for a packet
has to be accepted by every table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from installer.deploy.answers import split

TABLE = "kura"


def text(
    port: int,
    clients: Sequence[str],
    reach: Mapping[str, Sequence[str]],
    user: int,
    groups: Mapping[str, int],
    *,
    sealed: bool = False,
) -> str:
    """The file for `nft -f`. Loading it again replaces the table at once; its counters begin anew.

    `reach`: process -> addresses or networks, with :port or without. `sealed`: nor may a resolver on
    this machine be asked, which would ask others.
    """
    chains = []
    for name, group in groups.items():
        allowed = [f"        {rule}" for rule in _rules(reach.get(name, ()))]
        loopback = [] if name == "infer" else ['        oifname "lo" accept']
        if loopback and sealed:
            refuse = f"counter name {name}_refused reject with icmpx admin-prohibited"
            loopback = [
                f'        oifname "lo" meta l4proto {{tcp, udp}} th dport 53 {refuse}',
                *loopback,
            ]
        chains.append(
            "\n".join(
                [
                    f"    counter {name}_refused {{}}",
                    f"    chain {name} {{  # group {group}",
                    "        ct state established,related accept",
                    *loopback,
                    *allowed,
                    f"        counter name {name}_refused reject with icmpx admin-prohibited",
                    "    }",
                ]
            )
        )
    told = [f"        meta skgid {group} goto {name}" for name, group in groups.items()]
    admitted = [
        f"        tcp dport {port} {'ip6' if ':' in net else 'ip'} saddr {net} accept"
        for net in clients
    ]
    return "\n".join(
        [
            "# written by kura-installer from /etc/kura/install.toml; change that, then: kura-installer configure",
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            "    counter other_refused {}",
            "    counter visitors_refused {}",
            *chains,
            "    chain ours {",
            *told,
            "        # the command line, and whatever else runs as this user",
            '        oifname "lo" accept',
            "        counter name other_refused reject with icmpx admin-prohibited",
            "    }",
            "    chain output {  # of others, and what belongs to no socket, is not ours to judge",
            "        type filter hook output priority filter; policy accept;",
            f"        meta skuid {user} jump ours",
            "    }",
            "    chain input {",
            "        type filter hook input priority filter; policy accept;",
            f"        tcp dport != {port} accept  # not ours to judge",
            '        iifname "lo" accept',
            "        ct state established,related accept",
            *admitted,
            "        counter name visitors_refused drop",
            "    }",
            "}",
            "",
        ]
    )


def _rules(reach: Sequence[str]) -> list[str]:
    found = []
    for one in reach:
        network, port = split(one)
        family = "ip6" if ":" in network else "ip"
        if port:
            found.append(f"{family} daddr {network} tcp dport {port} accept")
        else:
            found.append(f"{family} daddr {network} accept")
        if port == 53:
            found.append(f"{family} daddr {network} udp dport 53 accept")
    return found
