#!/usr/bin/env bash
# An OpenSSH server for the tests, unpacked into .venv/openssh without root, where the machine has none (Debian, Ubuntu).
# Never fatal: the tests that need it are skipped then, and say what to install.
set -uo pipefail
PATH=$PATH:/usr/sbin:/usr/local/sbin
into=$PWD/.venv/openssh
command -v sshd >/dev/null || [ -x "$into/usr/sbin/sshd" ] && exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || exit 0

packages=$(mktemp -d) && trap 'rm -rf "$packages"' EXIT
fetch() { (cd "$packages" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" "$@") >/dev/null 2>&1; }
unpack() { for each in "$packages"/*.deb; do dpkg-deb -x "$each" "$1" || return; done; }
missing() { LD_LIBRARY_PATH=$(printf '%s:' "$1"{/usr,}/lib/*-linux-gnu*) ldd "$1/usr/sbin/sshd" | grep -q 'not found'; }

fetch openssh-server libwrap0 || { apt-get update -qq >/dev/null 2>&1; fetch openssh-server libwrap0; } ||
  { echo "No OpenSSH server for the tunnel tests: apt-get does not get it. Install openssh-server." >&2; exit 0; }
unpack "$into.new"
if missing "$into.new"; then # a slim image: take all the libraries it depends on, except the C library
  fetch $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances openssh-server | grep -E '^lib' | grep -vE '^libc6|:' | sort -u)
  unpack "$into.new"
fi
rm -rf "$into" && mv "$into.new" "$into"
