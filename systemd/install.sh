#!/usr/bin/env bash
# Installs pixverse-notifier as a systemd service, upgrades it, or removes it; --help explains.
#
# May be run again at any time. Each release gets a directory of its own, and nothing that runs is touched before
# the new release stands and accepts the watchlist. When it does not start, the earlier one comes back.
set -euo pipefail
umask 022
PATH=$PATH:/usr/sbin:/sbin
unset PYTHONHOME PYTHONPATH

readonly PYTHON=/usr/bin/python3 # NB: the system's own: one below /root or /home is out of the service's sight
readonly PREFIX=/opt/notifier
readonly CONFIG=/etc/notifier
readonly WATCHLIST=$CONFIG/watchlist.yaml
readonly STATE=/var/lib/notifier
readonly COMMAND=/usr/local/bin/notifier
readonly SYSUSERS=/etc/sysusers.d/notifier.conf
readonly UNIT=/etc/systemd/system/notifier.service
readonly DROP_INS=$UNIT.d
readonly BACKOFF=$DROP_INS/10-restart-backoff.conf

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE CHECKOUT=${HERE%/*}

usage() {
    cat <<'USAGE'
Usage: sudo systemd/install.sh [--wheel FILE] [--find-links DIR] [--no-start]
       sudo systemd/install.sh --uninstall [--purge]

Installs the checkout that this script is part of, or upgrades to it:
  /opt/notifier                          the releases and the link `current`
  /usr/local/bin/notifier                the command
  /etc/notifier/watchlist.yaml           from config/watchlist.yaml, unless it is there already
  /etc/notifier/credentials              secrets, one file for each, for root's eyes only
  /etc/systemd/system/notifier.service   the unit; the service starts once the watchlist is complete

  --wheel FILE       install this wheel instead of the checkout
  --find-links DIR   take packages from this directory only, never from the network
  --no-start         start nothing, and leave a running service as it is until its next restart
  --uninstall        remove the program and the service; watchlist, secrets and state stay
  --purge            with --uninstall: remove those and the user as well
USAGE
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

wheel='' find_links='' wants_start=yes uninstalling='' purging=''
while [ $# -gt 0 ]; do
    case $1 in
        --wheel | --find-links) [ $# -ge 2 ] || { usage >&2; exit 2; } ;;&
        --wheel) wheel=$2; shift ;;
        --find-links) find_links=$2; shift ;;
        --no-start) wants_start='' ;;
        --uninstall) uninstalling=yes ;;
        --purge) purging=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[ -z "$purging" ] || [ -n "$uninstalling" ] || { usage >&2; exit 2; }

systemd_runs() { [ -d /run/systemd/system ]; }

check_machine() {
    systemd_runs || die "systemd does not run here"
    [ -x "$PYTHON" ] || die "there is no $PYTHON; on Debian and Ubuntu: apt install python3-venv"
    "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is $("$PYTHON" -V), but Python 3.11 or newer is needed"
    "$PYTHON" -I -c 'import ensurepip, venv' 2>/dev/null ||
        die "$PYTHON cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"
}

# What is to be installed: sets source, version and a fingerprint that changes with either or with Python.
find_source() {
    if [ -n "$wheel" ]; then
        source=$(realpath -e -- "$wheel" 2>/dev/null) || die "there is no wheel $wheel"
        version=$(basename -- "$source" | sed -n 's/^pixverse_notifier-\([^-]*\)-.*\.whl$/\1/p')
        [ -n "$version" ] || die "$wheel is not a wheel of pixverse-notifier"
        fingerprint=$( { "$PYTHON" -V; sha256sum <"$source"; } | sha256sum)
    else
        source=$CHECKOUT
        version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/notifier/__init__.py" 2>/dev/null) ||
            die "$source is not a checkout of pixverse-notifier; give a --wheel"
        fingerprint=$( { "$PYTHON" -V; checkout_sums; } | sha256sum)
    fi
    [ -z "$find_links" ] || find_links=$(realpath -e -- "$find_links" 2>/dev/null) || die "there is no directory $find_links"
}

checkout_sums() {
    (cd -- "$source" && find pyproject.toml notifier -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum)
}

# Sets release: the directory of an earlier run that holds the same, else one that does not exist yet.
choose_release() {
    local count=1
    release=$PREFIX/releases/$version
    while [ -e "$release" ] && ! holds_the_same "$release"; do
        count=$((count + 1))
        release=$PREFIX/releases/$version-$count
    done
}

holds_the_same() {
    [ "$(cat -- "$1/.fingerprint" 2>/dev/null)" = "$fingerprint" ] && "$1/bin/notifier" --version >/dev/null 2>&1
}

build_release() {
    local offline=()
    if [ -e "$release" ]; then
        say "$release is there already"
        return
    fi
    [ -z "$find_links" ] || offline=(--no-index --find-links "$find_links")
    say "building $release"
    trap 'rm -rf -- "$release"' EXIT
    mkdir -p -- "$PREFIX/releases"
    "$PYTHON" -I -m venv -- "$release"
    "$release/bin/python" -I -m pip install --quiet --no-input --disable-pip-version-check \
        ${offline[@]+"${offline[@]}"} -- "$source" || die "pip could not install $source; nothing was changed"
    "$release/bin/notifier" --version >/dev/null || die "what was installed does not run; nothing was changed"
    printf '%s\n' "$fingerprint" >"$release/.fingerprint"
    trap - EXIT
}

add_user() {
    install -D -m 644 -- "$HERE/notifier.sysusers.conf" "$SYSUSERS"
    systemd-sysusers "$SYSUSERS"
}

write_config() {
    install -d -m 755 -- "$CONFIG"
    install -d -m 700 -- "$CONFIG/credentials"
    "$release/bin/notifier" schema | put 644 root "$CONFIG/watchlist.schema.json"
    [ ! -e "$WATCHLIST" ] && [ ! -L "$WATCHLIST" ] || return 0
    # The example takes its secrets from the environment, which suits a shell; a service has credentials.
    # shellcheck disable=SC2016 # these are references of the watchlist, not of the shell
    sed -e 's/\${env:USEAPI_TOKEN}/${credential:useapi-token}/' -e 's/\${env:SLACK_URL}/${credential:slack-url}/' \
        -e 's/\${env:DISCORD_URL}/${credential:discord-url}/' -e 's/\${env:MATTERMOST_URL}/${credential:mattermost-url}/' \
        -e 's/\${env:HOOK_SECRET}/${credential:webhook-secret}/' \
        "$CHECKOUT/config/watchlist.yaml" | put 640 notifier "$WATCHLIST"
    say "wrote $WATCHLIST"
}

# Writes standard input to a file at once: mode, group, file.
put() {
    cat >"$3.new"
    chgrp -- "$2" "$3.new"
    chmod -- "$1" "$3.new"
    mv -- "$3.new" "$3"
}

# Runs a command of the new release as the service would be run: its user, its credentials, its environment.
as_service() {
    local setting settings=(-p User=notifier)
    while IFS= read -r setting; do
        settings+=(-p "$setting")
    done < <(cat -- "$HERE/notifier.service" "$DROP_INS"/*.conf 2>/dev/null |
        grep -E '^(LoadCredential|LoadCredentialEncrypted|SetCredential|Environment|EnvironmentFile)=.')
    systemd-run --quiet --collect --wait --pipe "${settings[@]}" -- "$@" </dev/null
}

service_runs() { systemctl --quiet is-active notifier.service; }

# Makes the new release the one that counts. Sets has_changed, and previous and kept for the way back.
switch_over() {
    previous=$(readlink -- "$PREFIX/current" || true)
    kept=$(mktemp -d)
    trap 'rm -rf -- "$kept"' EXIT
    [ ! -e "$UNIT" ] || cp -- "$UNIT" "$kept/unit"
    [ ! -e "$BACKOFF" ] || cp -- "$BACKOFF" "$kept/backoff"
    has_changed=''
    [ "$previous" = "releases/${release##*/}" ] || has_changed=yes
    cmp --quiet -- "$HERE/notifier.service" "$UNIT" || has_changed=yes

    point_to "releases/${release##*/}"
    install -m 644 -- "$HERE/notifier.service" "$UNIT"
    if [ "$(systemd_version)" -ge 254 ]; then
        install -D -m 644 -- "$HERE/notifier.service.d/10-restart-backoff.conf" "$BACKOFF"
    else
        rm -f -- "$BACKOFF"
    fi
    systemctl daemon-reload
    link_command
}

point_to() {
    ln -sfn -- "$1" "$PREFIX/current.new"
    mv -T -- "$PREFIX/current.new" "$PREFIX/current"
}

systemd_version() { systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'; }

link_command() {
    if [ -e "$COMMAND" ] && [ "$(readlink -- "$COMMAND")" != "$PREFIX/current/bin/notifier" ]; then
        say "left $COMMAND alone, which is something else; the command is $PREFIX/current/bin/notifier"
        return
    fi
    mkdir -p -- "${COMMAND%/*}"
    ln -sfn -- "$PREFIX/current/bin/notifier" "$COMMAND"
}

start() {
    systemctl --quiet enable notifier.service
    if service_runs && [ -z "$has_changed" ]; then
        return
    fi
    systemctl restart notifier.service
}

# Puts the earlier release back, link and unit, and lets it run if it ran.
roll_back() {
    point_to "$previous"
    [ ! -e "$kept/unit" ] || install -m 644 -- "$kept/unit" "$UNIT"
    if [ -e "$kept/backoff" ]; then install -m 644 -- "$kept/backoff" "$BACKOFF"; else rm -f -- "$BACKOFF"; fi
    systemctl daemon-reload
    if [ -n "$was_running" ]; then systemctl restart notifier.service; else systemctl stop notifier.service; fi
}

show_journal() {
    journalctl --quiet --no-pager --output cat --lines 15 --unit notifier.service >&2 || true
}

# Keeps the release in use and the one before it.
prune_releases() {
    local directory
    [ "$previous" != "releases/${release##*/}" ] || return 0
    for directory in "$PREFIX"/releases/*; do
        case releases/${directory##*/} in
            "releases/${release##*/}" | "$previous") ;;
            *) rm -rf -- "$directory" ;;
        esac
    done
}

install_service() {
    local complaint='' was_running=''
    check_machine
    find_source
    choose_release
    build_release
    add_user
    write_config
    ! service_runs || was_running=yes
    if ! complaint=$(as_service "$release/bin/notifier" check --resolve --config "$WATCHLIST" 2>&1); then
        [ -z "$was_running" ] || [ -z "$wants_start" ] || {
            say "$complaint" >&2
            die "the new release does not accept the watchlist as it is; the running service was not touched"
        }
    else
        complaint=''
    fi
    switch_over
    if [ -n "$complaint" ]; then
        say_what_is_missing "$complaint"
    elif [ -z "$wants_start" ]; then
        say "installed notifier $version; start it with: systemctl enable notifier && systemctl restart notifier"
    elif start; then
        prune_releases
        say "notifier $version is running: systemctl status notifier, journalctl -u notifier -f"
    elif [ -n "$previous" ] && [ "$previous" != "releases/${release##*/}" ]; then
        show_journal
        roll_back || die "notifier $version does not start, nor does the earlier release: systemctl status notifier"
        die "notifier $version does not start; the earlier release is back"
    else
        show_journal
        die "notifier $version is installed, but does not start: systemctl status notifier"
    fi
}

say_what_is_missing() {
    cat <<TEXT
Installed notifier $version. It is not started, since the watchlist is not complete yet:

$1

Put your secrets into $CONFIG/credentials, one file for each, such as:
  sudo install -m 600 /dev/stdin $CONFIG/credentials/useapi-token    # paste, Enter, Ctrl-D
Edit $WATCHLIST, then:
  sudo env CREDENTIALS_DIRECTORY=$CONFIG/credentials notifier check --resolve
  sudo systemctl enable --now notifier
TEXT
}

uninstall_service() {
    if systemd_runs && [ -e "$UNIT" ]; then
        systemctl --quiet disable --now notifier.service
    fi
    rm -f -- "$UNIT" "$BACKOFF"
    [ ! -d "$DROP_INS" ] || rmdir --ignore-fail-on-non-empty -- "$DROP_INS"
    if systemd_runs; then
        systemctl daemon-reload
        systemctl reset-failed notifier.service 2>/dev/null || true
    fi
    [ "$(readlink -- "$COMMAND")" != "$PREFIX/current/bin/notifier" ] || rm -f -- "$COMMAND"
    rm -rf -- "$PREFIX"
    if [ -z "$purging" ]; then
        say "removed; $CONFIG and $STATE are still there (--purge removes them too)"
        return
    fi
    rm -rf -- "$CONFIG" "$STATE" "$DROP_INS" "$SYSUSERS"
    ! getent passwd notifier >/dev/null || userdel notifier
    say "removed, with watchlist, secrets and state"
}

[ "$(id -u)" = 0 ] || die "needs root: sudo $0"
if [ -n "$uninstalling" ]; then uninstall_service; else install_service; fi
