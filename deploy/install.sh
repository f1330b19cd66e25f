#!/bin/sh
# Installs Ringward on this host, from a Debian package or a program that is here already: for whatever runs commands on the hosts of a
# fleet. Fetches nothing, and installs nothing whose SHA-256 is not the one that was named. Run twice, it does nothing the second time.
# It starts and enables nothing; what runs goes on with the old program until it is restarted (--restart, if the new one accepts the
# configuration).
set -eu

usage() {
    cat <<'END'
usage: install.sh [--dry-run] [--restart] [--root DIR] --sha256 HEX FILE

  FILE        ringward_VERSION_ARCH.deb, or the program itself
  --sha256    the SHA-256 that FILE must have
  --dry-run   say what would be done, and do nothing
  --restart   if the service runs, have the new program take over (ringward upgrade), or restart it where the old one cannot
              be asked, when the new one accepts its configuration
  --root DIR  install the program below DIR, for an image; not for packages
END
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# Does something, or says that it would.
act() {
    if [ -n "$dry_run" ]; then
        echo "would run: $*"
    else
        echo "$*"
        "$@"
    fi
}

sha256_of() {
    sha256sum | cut -d ' ' -f 1
}

# Puts a file in its place by renaming, so that nobody sees half of it; nothing if it is there already.
put() {
    from=$1 to=$root$2 mode=$3
    if cmp -s "$from" "$to" && [ "$(stat -c %a "$to")" = "$mode" ]; then
        return 0
    fi
    changed=1
    [ -d "$(dirname "$to")" ] || act mkdir -p "$(dirname "$to")"
    act install -m "$mode" "$from" "$to.new"
    act mv "$to.new" "$to"
}

install_package() {
    [ -z "$root" ] || fail "--root is for programs: give packages to dpkg --root"
    [ "$(dpkg-deb --field "$file" Package)" = ringward ] || fail "that is a package of something else"
    program=/usr/bin/ringward
    new=$(dpkg-deb --fsys-tarfile "$file" | tar -xOf - ./usr/bin/ringward | sha256_of)
    version=$(dpkg-deb --field "$file" Version)
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Version}' ringward 2>/dev/null || true)
    if [ "$installed" = "installed $version" ] && [ "$(sha256_of <"$program")" = "$new" ]; then
        return 0
    fi
    changed=1
    # The package restarts a service that runs, if the new program accepts its configuration.
    DEBIAN_FRONTEND=noninteractive act apt-get install --yes --no-install-recommends --allow-downgrades --reinstall "$file"
}

install_program() {
    [ "$(od -A n -t x1 -N 4 "$file" | tr -d ' ')" = 7f454c46 ] || fail "that is neither a package nor a program (ELF)"
    if [ -z "$root" ] && dpkg-query --show ringward >/dev/null 2>&1; then
        fail "the package ringward is here: give this host packages, or remove it first"
    fi
    program=/usr/local/bin/ringward
    put "$file" "$program" 755
    put "$here/systemd/ringward.service" /etc/systemd/system/ringward.service 644
    put "$here/systemd/ringward-report.service" /etc/systemd/system/ringward-report.service 644
    put "$here/systemd/ringward-report.timer" /etc/systemd/system/ringward-report.timer 644
    put "$here/systemd/sysusers.conf" /etc/sysusers.d/ringward.conf 644
    put "$here/systemd/tmpfiles.conf" /etc/tmpfiles.d/ringward.conf 644
    [ -z "$root" ] || return 0
    # Also after a run that got no further.
    [ -n "$changed" ] || ! getent passwd ringward >/dev/null || [ ! -d /etc/ringward ] || return 0
    changed=1
    act systemd-sysusers ringward.conf
    act systemd-tmpfiles --create ringward.conf
    if [ -d /run/systemd/system ]; then
        act systemctl daemon-reload
    fi
}

restart() {
    [ -d /run/systemd/system ] && systemctl is-active --quiet ringward || return 0
    # A file that was replaced is called so, with "(deleted)" behind it.
    pid=$(systemctl show --property MainPID --value ringward)
    if [ "$(readlink "/proc/$pid/exe")" = "$program" ]; then
        return 0
    fi
    if [ -n "$dry_run" ]; then
        echo "would run $program upgrade, or check $config and restart ringward if there is nobody to ask"
        return 0
    fi
    code=0
    said=$(timeout 120 runuser -u ringward -- "$program" upgrade -c "$config" 2>&1) || code=$?
    if [ "$code" -eq 0 ]; then
        echo "$said"
    elif [ "$code" -eq 1 ]; then
        fail "the old program goes on: $said"
    elif timeout 60 runuser -u ringward -- "$program" check -c "$config" >/dev/null; then
        act systemctl try-restart ringward
    else
        fail "$config is refused by the new program: the old one goes on"
    fi
}

here=$(dirname "$0")
config=/etc/ringward/ringward.toml
dry_run='' with_restart='' root='' wanted='' file='' changed=''
while [ $# -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=1 ;;
        --restart) with_restart=1 ;;
        --root | --sha256)
            [ $# -ge 2 ] || fail "$1 needs a value"
            if [ "$1" = --root ]; then root=${2%/}; else wanted=$2; fi
            shift
            ;;
        --help)
            usage
            exit 0
            ;;
        -*)
            usage >&2
            exit 2
            ;;
        *)
            [ -z "$file" ] || fail "one file at a time: $file or $1"
            file=$1
            ;;
    esac
    shift
done
if [ -z "$file" ] || [ -z "$wanted" ]; then
    usage >&2
    exit 2
fi
[ -f "$file" ] || fail "$file is not there"
# What is looked at is a copy that nobody else can change before it is installed.
copies=$(mktemp -d)
trap 'rm -rf "$copies"' EXIT
copy=$copies/$(basename "$file")
cp "$file" "$copy"
actual=$(sha256_of <"$copy")
[ "$actual" = "$(echo "$wanted" | tr 'A-F' 'a-f')" ] || fail "$file has the SHA-256 $actual and not $wanted: nothing was done"
file=$copy

case "$file" in
    *.deb) install_package ;;
    *) install_program ;;
esac
if [ -z "$changed" ]; then
    echo "nothing to do: $root$program is the one that was named"
fi
if [ -n "$with_restart" ] && [ -z "$root" ]; then
    restart
fi
