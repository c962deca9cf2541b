#!/usr/bin/env bash
# Becomes a command in a container of the plainest kind: its own process ids, where the command is process 1, and a
# root of its own that nobody can write to and that has no account, no home and no /tmp.
# Usage: unshare --pid --mount --fork container.sh ROOT USER [ro|rw:SOURCE:PLACE]... -- COMMAND...
set -euo pipefail
root=$1 user=$2
shift 2

mount --make-rprivate /
mount -t tmpfs -o mode=755,size=1m tmpfs "$root"
mkdir "$root"/{dev,old,proc,usr}
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$root/$name"; done
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --rbind --make-rslave /usr "$root/usr"
for device in null urandom zero; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for ((; $# > 0; )); do
    [ "$1" != -- ] || break
    IFS=: read -r mode source place <<<"$1"
    shift
    mkdir -p "$root$place"
    mount --bind "$source" "$root$place"
    mount -o "remount,bind,$mode" "$root$place"
done
shift

cd "$root"
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,bind,ro /usr
mount -o remount,ro /
cd /
# NB: to change the user forgets what unshare's --kill-child has asked for.
exec env -u HOME -u TERM -u SHLVL -u PWD -u OLDPWD -u _ setpriv --reuid "$user" --regid "$user" --clear-groups \
    --no-new-privs --inh-caps=-all --bounding-set=-all --pdeathsig KILL -- "$@"
