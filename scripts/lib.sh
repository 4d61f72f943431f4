# Shared by the scripts of ./dev; sourced with the repository as the working directory.
# shellcheck shell=bash
set -euo pipefail

root=$PWD
dev=$root/.dev

say() { printf '\n== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else
        have sudo || die "run this as root, or install sudo: $*"
        sudo "$@"
    fi
}

# The directory with postgres, initdb and pg_ctl; Debian keeps it out of PATH.
pg_bin() {
    local dir
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -rn); do
        [ -x "$dir/postgres" ] && { echo "$dir"; return; }
    done
    have postgres && dirname "$(readlink -f "$(command -v postgres)")"
}

# Installs Debian packages without letting them start their services: the machine's own Redis and
# PostgreSQL, when there are any, stay as they are.
apt_install() {
    have apt-get || die "please install by hand: $*"
    say "installing $*"
    local policy=/usr/sbin/policy-rc.d ours='' status=0
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        ours=yes
    fi
    {
        as_root apt-get update -qq &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null
    } || status=$?
    [ -z "$ours" ] || as_root rm -f $policy
    [ $status = 0 ] || die "apt-get could not install: $*"
}

# need COMMAND PACKAGE… as pairs: installs the packages whose command is missing.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        case $1 in
            postgres) [ -n "$(pg_bin)" ] || missing+=("$2") ;;
            *) have "$1" || missing+=("$2") ;;
        esac
        shift 2
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

need_servers() {
    have cargo || die "Rust is missing: see https://rustup.rs"
    need redis-server redis-server redis-cli redis-tools postgres postgresql \
        cc gcc setpriv util-linux openssl openssl
    [ -e /usr/include/stdio.h ] || apt_install libc6-dev
}

# The first free TCP port of 127.0.0.1 from $1 on.
free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

alive() { [ -s "$1" ] && kill -0 "$(head -n1 "$1")" 2>/dev/null; }

# Where the private servers of ./dev up are; written by scripts/up.
load_env() {
    [ -f "$dev/env" ] || die "nothing has been started yet: ./dev up"
    # shellcheck disable=SC1091
    . "$dev/env"
}

# PostgreSQL refuses to run as root.
as_pg_user() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && setpriv --reuid=postgres --regid=postgres --init-groups -- "$@")
    else "$@"; fi
}

# The program that scripts run; TANDEM_BIN names another one than the debug build.
build_tandem() {
    [ -z "${TANDEM_BIN:-}" ] || return 0
    say "building"
    cargo build --bin tandem
}

# `tandem dev` on fresh data, for as long as the script runs. Sets $url, $admin, $redis, $postgres and $config to
# what it says, and $private to a directory that goes with it.
start_dev() {
    private=$(mktemp -d)
    chmod 755 "$private"
    "${TANDEM_BIN:-target/debug/tandem}" dev --json --dir "$private/data" \
        >"$private/addresses" 2>"$private/tandem.log" &
    dev_pid=$!
    trap stop_dev EXIT
    trap 'exit 1' INT TERM
    local _
    for _ in $(seq 1200); do
        [ -s "$private/addresses" ] && break
        kill -0 $dev_pid 2>/dev/null || break
        sleep 0.1
    done
    [ -s "$private/addresses" ] || { cat "$private/tandem.log" >&2; die "tandem dev does not start"; }
    local name
    for name in url admin redis postgres config; do
        printf -v "$name" '%s' "$(python3 -c \
            'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$private/addresses" $name)"
    done
}

stop_dev() {
    kill "$dev_pid" 2>/dev/null || true
    wait "$dev_pid" 2>/dev/null || true
    rm -rf "$private"
}
