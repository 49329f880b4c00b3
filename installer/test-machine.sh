#!/bin/sh
# What the tests need from Debian's packages: a browser, servers (PostgreSQL, MariaDB, files, SSH, IMAP, LDAP, wikis, Redmine), tools (Git, minisign, nftables, strace, curl), a Japanese font.
set -eu

wanted=""
command -v chromium >/dev/null 2>&1 || wanted="$wanted chromium"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
{ command -v smbd >/dev/null 2>&1 || [ -x /usr/sbin/smbd ]; } || wanted="$wanted samba samba-vfs-modules"
ls /usr/lib/*/libnss_wrapper.so >/dev/null 2>&1 || wanted="$wanted libnss-wrapper"
command -v minisign >/dev/null 2>&1 || wanted="$wanted minisign"
{ command -v nft >/dev/null 2>&1 || [ -x /usr/sbin/nft ]; } || wanted="$wanted nftables"
{ command -v ip >/dev/null 2>&1 || [ -x /sbin/ip ]; } || wanted="$wanted iproute2"
command -v strace >/dev/null 2>&1 || wanted="$wanted strace"
command -v curl >/dev/null 2>&1 || wanted="$wanted curl"
command -v git >/dev/null 2>&1 || wanted="$wanted git"
command -v ssh >/dev/null 2>&1 || wanted="$wanted openssh-client"
[ -x /usr/sbin/sshd ] || wanted="$wanted openssh-server"
[ -x /usr/share/redmine/bin/rails ] || wanted="$wanted redmine redmine-sqlite ruby-webrick"
{ command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ]; } || wanted="$wanted nginx-light"
[ -x /usr/sbin/dovecot ] || wanted="$wanted dovecot-imapd"
{ [ -x /usr/sbin/slapd ] && command -v ldapmodify >/dev/null 2>&1; } || wanted="$wanted slapd ldap-utils"
# a PHP that no web server runs, and a web server that nothing starts, for what depends on one
[ -e /usr/share/mediawiki/api.php ] || wanted="$wanted mediawiki php-cli php-cgi libapache2-mod-php8.2- micro-httpd php-sqlite3"
[ -e /usr/share/dokuwiki/doku.php ] || wanted="$wanted dokuwiki php-cli php-cgi libapache2-mod-php8.2- micro-httpd"
{ command -v nft >/dev/null 2>&1 || [ -x /usr/sbin/nft ]; } || wanted="$wanted nftables iproute2"
[ -x /usr/sbin/mariadbd ] || wanted="$wanted mariadb-server"
[ -e /usr/share/wordpress/wp-load.php ] || wanted="$wanted wordpress php-cli php-cgi php-mysql libapache2-mod-php8.2- micro-httpd"
fonts=$(find /usr/share/fonts -name NotoSansCJK-Regular.ttc -o -name ipaexg.ttf 2>/dev/null || true)
[ -n "$fonts" ] || wanted="$wanted fonts-ipaexfont"
[ -n "$wanted" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"
echo "  テスト用に${wanted} をインストールします / installing for the tests:${wanted}"
export DEBIAN_FRONTEND=noninteractive
case "$wanted " in *" slapd "*) echo "slapd slapd/no_configuration boolean true" | $sudo debconf-set-selections ;; esac
case "$wanted " in *" redmine "*) # the tests make a database of their own
    echo "redmine redmine/instances/default/dbconfig-install boolean false" | $sudo debconf-set-selections ;;
esac
# shellcheck disable=SC2086 # a list of names
if ! { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $wanted; } >>.install.log 2>&1; then
    echo "  ✗ 失敗しました。手で実行してください / failed; run it by hand: $sudo apt-get install -y$wanted" >&2
    tail -5 .install.log >&2
    exit 1
fi
# the tests start servers of their own; nothing of the machine is shared
services=""
case "$wanted " in *" samba "*) services="$services smbd nmbd" ;; esac
case "$wanted " in *" openssh-server "*) services="$services ssh" ;; esac
case "$wanted " in *" php-cgi "*) services="$services php8.2-fpm" ;; esac
case "$wanted " in *" dovecot-imapd "*) services="$services dovecot" ;; esac
case "$wanted " in *" mariadb-server "*) services="$services mariadb" ;; esac
case "$wanted " in *" slapd "*) services="$services slapd" ;; esac
case "$wanted " in *" nginx-light "*) services="$services nginx" ;; esac
if [ -n "$services" ] && command -v systemctl >/dev/null 2>&1; then
    # shellcheck disable=SC2086 # a list of names
    $sudo systemctl disable --now $services >>.install.log 2>&1 || true
fi
