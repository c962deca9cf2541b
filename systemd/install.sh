#!/usr/bin/env bash
# Installs pixverse-notifier as a systemd service, upgrades it, or removes it; --help explains.
#
# May be run again at any time; where all is as it should be, nothing is touched. Each release gets a directory of
# its own, and nothing that runs is touched before the new release stands and accepts the watchlist. When it does not
# start, or does not stay up, or this script is cut short, the earlier one comes back, with a state file that it can read.
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
readonly SHARE=/usr/local/share
readonly SYSUSERS=/etc/sysusers.d/notifier.conf
readonly UNIT=/etc/systemd/system/notifier.service
readonly LOCK=/run/notifier-install.lock
readonly DROP_INS=$UNIT.d
readonly BACKOFF=$DROP_INS/10-restart-backoff.conf
readonly SECONDS_WATCHED=10 # in which a release has read and told, and has done most of its regular duties once

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE CHECKOUT=${HERE%/*}

# What a release brings beside the program: where it is looked for, and as what the release has it.
readonly EXTRAS=(
    "$SHARE/man/man1/notifier.1" man
    "$SHARE/bash-completion/completions/notifier" bash
    "$SHARE/zsh/site-functions/_notifier" zsh
    "$SHARE/fish/vendor_completions.d/notifier.fish" fish
    "$CONFIG/watchlist.schema.json" schema
)

usage() {
    cat <<'USAGE'
Usage: sudo systemd/install.sh [--wheel FILE] [--find-links DIR] [--no-start]
       sudo systemd/install.sh --uninstall [--purge]

Installs the checkout that this script is part of, or upgrades to it:
  /opt/notifier                          the releases and the link `current`
  /usr/local/bin/notifier                the command
  /usr/local/share                       its manual page, and completion for those of bash, zsh and fish that are there
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
    pip=$(find_pip) || die "$PYTHON cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"
}

# Prints where the pip is that Python has for virtual environments. It is run out of its wheel: installing it into
# each release would take longer than all the rest, and no release needs it.
find_pip() {
    "$PYTHON" -I - 2>/dev/null <<'CODE'
import ensurepip, pathlib, sysconfig, venv
places = sysconfig.get_config_var("WHEEL_PKG_DIR"), pathlib.Path(ensurepip.__file__).with_name("_bundled")
wheels = [wheel for place in places if place for wheel in sorted(pathlib.Path(place).glob("pip-*.whl"))]
print(wheels[0] / "pip")
CODE
}

# What is to be installed: sets source, version and a fingerprint that changes with either or with Python.
find_source() {
    if [ -n "$wheel" ]; then
        source=$(realpath -e -- "$wheel" 2>/dev/null) || die "there is no wheel $wheel"
        version=$(basename -- "$source" | sed -n 's/^pixverse_notifier-\([^-]*\)-.*\.whl$/\1/p')
        [ -n "$version" ] || die "$wheel is not a wheel of pixverse-notifier"
        fingerprint=$({ "$PYTHON" -V; sha256sum <"$source"; } | sha256sum)
    else
        source=$CHECKOUT
        version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$source/notifier/__init__.py" 2>/dev/null) ||
            die "$source is not a checkout of pixverse-notifier; give a --wheel"
        fingerprint=$({ "$PYTHON" -V; checkout_sums; } | sha256sum)
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

holds_the_same() { [ "$(cat -- "$1/.fingerprint" 2>/dev/null)" = "$fingerprint" ]; }

build_release() {
    local offline=()
    [ ! -e "$release" ] || return 0
    [ -z "$find_links" ] || offline=(--no-index --find-links "$find_links")
    say "building $release"
    trap 'rm -rf -- "$release"' EXIT
    mkdir -p -- "$PREFIX/releases"
    "$PYTHON" -I -m venv --without-pip -- "$release"
    "$release/bin/python" -I "$pip" install --quiet --no-input --disable-pip-version-check --no-warn-script-location \
        ${offline[@]+"${offline[@]}"} -- "$source" || die "pip could not install $source; nothing was changed"
    write_extras || die "what was installed does not run; nothing was changed"
    printf '%s\n' "$fingerprint" >"$release/.fingerprint"
    trap - EXIT
}

# Lets the release print what it brings, all in one go, since a start takes a while: the schema, the manual page,
# and what makes those shells complete it that are there. What an older release does not know is not there.
write_extras() {
    local shell extras=(schema man)
    for shell in bash zsh fish; do
        ! command -v "$shell" >/dev/null || extras+=("$shell")
    done
    mkdir -- "$release/extras"
    "$release/bin/python" -I - "$release/extras" "${extras[@]}" <<'CODE'
import contextlib, pathlib, sys
from notifier.cli import main

directory, *extras = sys.argv[1:]
for extra in extras:
    command = [extra] if extra in ("schema", "man") else ["completion", extra]
    if command[0] in main.commands:
        with pathlib.Path(directory, extra).open("w") as file, contextlib.redirect_stdout(file):
            main(command, prog_name="notifier", standalone_mode=False)
CODE
}

add_user() {
    place "$HERE/notifier.sysusers.conf" "$SYSUSERS"
    systemd-sysusers "$SYSUSERS"
}

# Copies a file to its place, unless it is there already.
place() { cmp --quiet -- "$1" "$2" || install -D -m 644 -- "$1" "$2"; }

write_config() {
    [ -d "$CONFIG" ] || install -d -m 755 -- "$CONFIG"
    install -d -m 700 -- "$CONFIG/credentials"
    [ ! -e "$WATCHLIST" ] && [ ! -L "$WATCHLIST" ] || return 0
    # The example takes its secrets from the environment, which suits a shell; a service has credentials.
    # shellcheck disable=SC2016 # these are references of the watchlist, not of the shell
    sed -e 's/\${env:USEAPI_TOKEN}/${credential:useapi-token}/' -e 's/\${env:SLACK_URL}/${credential:slack-url}/' \
        -e 's/\${env:DISCORD_URL}/${credential:discord-url}/' -e 's/\${env:MATTERMOST_URL}/${credential:mattermost-url}/' \
        -e 's/\${env:HOOK_SECRET}/${credential:webhook-secret}/' -e 's/\${env:CALLBACK_PATH}/${credential:callback-path}/' \
        "$CHECKOUT/config/watchlist.yaml" >"$WATCHLIST.new"
    chgrp -- notifier "$WATCHLIST.new"
    chmod -- 640 "$WATCHLIST.new"
    mv -- "$WATCHLIST.new" "$WATCHLIST"
    say "wrote $WATCHLIST"
}

# Runs a command as the service would be run: its user, its credentials, its environment.
as_service() {
    local setting settings=(-p User=notifier -p "Environment=STATE_DIRECTORY=$STATE")
    while IFS= read -r setting; do
        settings+=(-p "$setting")
    done < <(service_settings)
    systemd-run --quiet --collect --wait --pipe "${settings[@]}" -- "$@"
}

service_settings() {
    cat -- "$HERE/notifier.service" "$DROP_INS"/*.conf 2>/dev/null |
        grep -E '^(LoadCredential|LoadCredentialEncrypted|SetCredential|Environment|EnvironmentFile)=.'
}

# Lets the release look at the watchlist as the service would; prints what speaks against it.
check_watchlist() {
    local code=0
    as_service "$release/bin/notifier" check --resolve --config "$WATCHLIST" 2>&1 </dev/null || code=$?
    [ "$code" != 243 ] || name_missing_credentials # of these systemd says no more than that number
    return "$code"
}

name_missing_credentials() {
    local name file
    service_settings | sed -n 's/^LoadCredential[^=]*=//p' | while IFS=: read -r name file; do
        [ -z "$file" ] || [ -e "$file" ] || service_settings | grep "^SetCredential=$name:" >/dev/null ||
            say "there is no file $file, which LoadCredential= names: systemd would not start the service"
    done
}

# Says whether the service runs, or would soon: a failing one is started again and again.
service_runs() {
    case $(systemctl show --value --property ActiveState notifier.service) in
        inactive | failed) return 1 ;;
    esac
}

main_pid() { systemctl show --value --property MainPID notifier.service; }

# Prints which release it is that runs, as the link names it; after --no-start it is an earlier one than the link's.
running_release() {
    local pid
    pid=$(main_pid)
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | sed -n "1s|^$PREFIX/\(releases/[^/]*\)/bin/python$|\1|p"
}

release_runs() {
    systemctl --quiet is-active notifier.service && [ "$(running_release)" = "releases/${release##*/}" ]
}

# Says whether the service is to be another one than it is: its release, its unit.
differs() {
    [ "$(readlink -- "$PREFIX/current")" != "releases/${release##*/}" ] ||
        ! cmp --quiet -- "$HERE/notifier.service" "$UNIT" ||
        { wants_backoff && ! cmp --quiet -- "$HERE/notifier.service.d/10-restart-backoff.conf" "$BACKOFF"; }
}

wants_backoff() { [ "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')" -ge 254 ]; }

# Makes the new release the one that counts from the next start on.
switch_over() {
    point_to "releases/${release##*/}"
    place "$HERE/notifier.service" "$UNIT"
    if wants_backoff; then
        place "$HERE/notifier.service.d/10-restart-backoff.conf" "$BACKOFF"
    else
        rm -f -- "$BACKOFF"
    fi
    systemctl daemon-reload
}

point_to() {
    ln -sfn -- "$1" "$PREFIX/current.new"
    mv -T -- "$PREFIX/current.new" "$PREFIX/current"
}

# Sets what the way back needs: previous, was_running, kept (the unit) and state (where the state file is).
remember() {
    previous=$(running_release || true)
    [ -n "$previous" ] || previous=$(readlink -- "$PREFIX/current" || true)
    was_running=''
    ! service_runs || was_running=yes
    state=$(as_service "$release/bin/python" -I -c "$WHERE_STATE_IS" "$WATCHLIST" </dev/null) ||
        die "the watchlist does not say where the state file is; nothing was changed"
    kept=$(mktemp -d)
    [ ! -e "$UNIT" ] || cp -- "$UNIT" "$kept/unit"
    [ ! -e "$BACKOFF" ] || cp -- "$BACKOFF" "$kept/backoff"
}

readonly WHERE_STATE_IS='
import sys
from notifier import loading, paths
print(paths.state_file(None, loading.load(sys.argv[1]).config.state))'

# Does a step of the state file's handover, as the user whose file it is.
hand_over() { as_service "$PYTHON" -I - "$1" "$state" <"$CHECKOUT/notifier/handover.py"; }

# Lets the new release take the place of what runs, if anything does. Ends this script when it does not start.
start_anew() {
    remember
    trap give_up EXIT
    systemctl stop notifier.service 2>/dev/null || true # it may not exist yet
    hand_over keep || die "the state file could not be copied"
    switch_over
    systemctl start notifier.service || die "notifier $version does not start"
    stays_up || die "notifier $version starts, but does not stay up"
    trap - EXIT
    systemctl --quiet enable notifier.service
    hand_over let-go || true
    rm -rf -- "$kept"
}

# Says whether the service is the same process still after its first seconds.
stays_up() {
    local second pid
    pid=$(main_pid)
    for ((second = 0; second < SECONDS_WATCHED; second++)); do
        sleep 1
        systemctl --quiet is-active notifier.service || return 1
        [ "$(main_pid)" = "$pid" ] || return 1
    done
}

# The way back, whatever it was that ended this script.
give_up() {
    trap '' INT TERM HUP PIPE # whoever reads along, such as tee, may have been ended as well
    set +e
    show_journal
    systemctl stop notifier.service
    if [ -z "$previous" ]; then
        hand_over let-go
        link_all
        say "it is installed, but not started: mend it and run this script again" >&2
    else
        hand_over take-back >&2 || say "$state could not be taken back; $state.before is a copy of what it was" >&2
        put_back
        say_how_it_is_now >&2
    fi
    rm -rf -- "$kept"
}

put_back() {
    point_to "$previous"
    [ ! -e "$kept/unit" ] || cp -- "$kept/unit" "$UNIT"
    if [ -e "$kept/backoff" ]; then cp -- "$kept/backoff" "$BACKOFF"; else rm -f -- "$BACKOFF"; fi
    systemctl daemon-reload
}

say_how_it_is_now() {
    if [ -z "$was_running" ]; then
        say "what there was before is back; it did not run"
    elif systemctl start notifier.service; then
        say "the earlier release is back and runs"
    else
        say "the earlier release is back, but does not start either: systemctl status notifier"
    fi
}

show_journal() {
    journalctl --quiet --no-pager --output cat --lines 15 --unit notifier.service >&2
}

# Puts links to the command and the extras to where they are looked for.
link_all() {
    local index
    link "$PREFIX/current/bin/notifier" "$COMMAND"
    [ -L "$CONFIG/watchlist.schema.json" ] || rm -f -- "$CONFIG/watchlist.schema.json" # it was a file once
    for ((index = 0; index < ${#EXTRAS[@]}; index += 2)); do
        link "$PREFIX/current/extras/${EXTRAS[index + 1]}" "${EXTRAS[index]}"
    done
}

# Makes a link to a file, if that is there, unless something else has its name.
link() {
    if [ "$(readlink -- "$2")" = "$1" ]; then
        [ -e "$1" ] || rm -f -- "$2"
    elif [ -e "$2" ] || [ -L "$2" ]; then
        say "left $2 alone, which is something else than a link to $1"
    elif [ -e "$1" ]; then
        mkdir -p -- "${2%/*}"
        ln -s -- "$1" "$2"
    fi
}

unlink_all() {
    local index
    unlink_ours "$PREFIX/current/bin/notifier" "$COMMAND"
    for ((index = 0; index < ${#EXTRAS[@]}; index += 2)); do
        unlink_ours "$PREFIX/current/extras/${EXTRAS[index + 1]}" "${EXTRAS[index]}"
    done
}

unlink_ours() { [ "$(readlink -- "$2")" != "$1" ] || rm -f -- "$2"; }

# Keeps the release in use and the one before it.
prune_releases() {
    local directory
    for directory in "$PREFIX"/releases/*; do
        case releases/${directory##*/} in
            "releases/${release##*/}" | "$previous") ;;
            *) rm -rf -- "$directory" ;;
        esac
    done
}

install_service() {
    local complaint accepts=yes
    check_machine
    find_source
    choose_release
    build_release
    add_user
    write_config
    complaint=$(check_watchlist) || accepts=''
    if [ -z "$accepts" ] && service_runs; then
        say "$complaint" >&2
        die "the new release cannot run with the watchlist and the secrets as they are; the running service was not touched"
    elif [ -z "$accepts" ]; then
        ! differs || switch_over
        link_all
        say_what_is_missing "$complaint"
    elif [ -z "$wants_start" ]; then
        ! differs || switch_over
        link_all
        say "installed notifier $version; start it with: systemctl enable notifier && systemctl restart notifier"
    elif ! differs && release_runs; then
        link_all
        say "notifier $version is running already"
    else
        start_anew
        link_all
        [ "$previous" = "releases/${release##*/}" ] || prune_releases
        say "notifier $version is running: systemctl status notifier, journalctl -u notifier -f"
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
    unlink_all
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
exec 9>"$LOCK"
flock --nonblock 9 || die "it is running already"
if [ -n "$uninstalling" ]; then uninstall_service; else install_service; fi
