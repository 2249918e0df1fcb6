#!/usr/bin/env bash
# Makes a Debian 12 machine ready to build, test and demonstrate Malla: checks what cannot be
# installed, installs the Debian packages that are missing, and starts none of their services.
#
# Arguments: more packages, for what only some targets need.
#
# Prints nothing when there is nothing to do. Whatever is missing and cannot be installed ends it
# with one line that says what and how to get it: exit 77 without privilege, else 69 (sysexits).
set -euo pipefail

stop() {
    echo "malla: $2" >&2
    exit "$1"
}

[ "$(uname -s)" = Linux ] ||
    stop 69 "needs Linux (eBPF); run it in a Debian 12 virtual machine"
[ "$(id -u)" = 0 ] ||
    stop 77 "needs root (eBPF, network namespaces, packages); run it again as root or with sudo"
[ -r /sys/kernel/btf/vmlinux ] ||
    stop 69 "the kernel has no BTF (/sys/kernel/btf/vmlinux); boot one with CONFIG_DEBUG_INFO_BTF=y"
awk '$3 == "cgroup2" { found = 1 } END { exit !found }' /proc/mounts ||
    stop 69 "cgroup v2 is not mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup"

swift=$(command -v swift || true)
for candidate in /opt/swift/usr/bin/swift /usr/bin/swift; do
    if [ -z "$swift" ] && [ -x "$candidate" ]; then swift=$candidate; fi
done
[ -n "$swift" ] ||
    stop 69 "found no swift; install Swift 6.3 or newer from https://www.swift.org/install/linux"
version=$("$swift" --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' | head -n 1)
[ "$(printf '%s\n' 6.3 "${version:-0}" | sort -V | head -n 1)" = 6.3 ] ||
    stop 69 "$swift is ${version:-unknown}; install Swift 6.3 or newer from https://www.swift.org/install/linux"

# What the build needs, then what tests and demo run.
packages=(
    clang-14 llvm-14 libbpf-dev libelf-dev libssl-dev libnghttp2-dev zlib1g-dev linux-libc-dev
    libc6-dev pkg-config make
    iproute2 nftables bpftool procps util-linux libcap2-bin tcpdump
    nginx-light wrk curl ca-certificates python3 python3-venv prometheus
    "$@"
)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
    stop 69 "found no apt-get; install by hand: ${missing[*]}"

# invoke-rc.d asks policy-rc.d whether a package may start its service: 101 is no. nginx and
# prometheus are here for their programs, not as services of this machine.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
ours=no
tidy() {
    rm -f "$log"
    if [ "$ours" = yes ]; then rm -f "$policy"; fi
}
trap tidy EXIT
if [ ! -e "$policy" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

echo "malla: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
{ timeout 300 apt-get -qq update &&
    timeout 900 apt-get -qq -y --no-install-recommends install "${missing[@]}"; } >"$log" 2>&1 || {
    tail -n 5 "$log" >&2
    stop 69 "apt-get could not install the packages above; check /etc/apt/sources.list and the network"
}
# A service that was not running before is not wanted after the next boot either.
if [ -d /run/systemd/system ]; then
    for service in nginx prometheus; do
        case " ${missing[*]} " in
            *" $service"*) systemctl disable --quiet --now "$service" 2>/dev/null || true ;;
        esac
    done
fi
