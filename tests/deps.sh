#!/usr/bin/env bash
# deps.sh PACKAGE...   Installs those Debian packages that are missing; does nothing, and needs no root,
# when none is. Called by the Makefile.
set -u
export DEBIAN_FRONTEND=noninteractive

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "not a Debian system: nothing is installed for you; the Debian names of what is needed: $*"
    exit 0
fi

missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
    root=()
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    root=(sudo -E)
else
    echo "missing packages: ${missing[*]}" >&2
    echo "neither root nor sudo is at hand. As root: apt-get install ${missing[*]}" >&2
    exit 1
fi

echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    "${root[@]}" apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
        install "${missing[@]}" >"$log" 2>&1 </dev/null
}
# The lists may be absent or out of date: fetch them only when the first attempt fails.
install || { "${root[@]}" apt-get -qq update >/dev/null 2>&1; install; } || {
    cat "$log" >&2
    echo "could not install: ${missing[*]}" >&2
    exit 1
}
