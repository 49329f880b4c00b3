#!/bin/sh
# What the tests need from Debian's packages: a browser, PostgreSQL's server, a file server, a Japanese font.
set -eu

wanted=""
command -v chromium >/dev/null 2>&1 || wanted="$wanted chromium"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
{ command -v smbd >/dev/null 2>&1 || [ -x /usr/sbin/smbd ]; } || wanted="$wanted samba samba-vfs-modules"
ls /usr/lib/*/libnss_wrapper.so >/dev/null 2>&1 || wanted="$wanted libnss-wrapper"
fonts=$(find /usr/share/fonts -name NotoSansCJK-Regular.ttc -o -name ipaexg.ttf 2>/dev/null || true)
[ -n "$fonts" ] || wanted="$wanted fonts-ipaexfont"
[ -n "$wanted" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "  テスト用に${wanted} をインストールします / installing for the tests:${wanted}"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
if ! { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $wanted; } >>.install.log 2>&1; then
    echo "  ✗ 失敗しました。手で実行してください / failed; run it by hand: $sudo apt-get install -y$wanted" >&2
    tail -5 .install.log >&2
    exit 1
fi
case "$wanted" in
*" samba "*) # the tests start a server of their own; nothing of the machine is shared
    if command -v systemctl >/dev/null 2>&1; then
        $sudo systemctl disable --now smbd nmbd >>.install.log 2>&1 || true
    fi ;;
esac
