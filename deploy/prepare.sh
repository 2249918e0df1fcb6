#!/usr/bin/env bash
# Makes a Debian 12 machine ready to build, test and demonstrate Malla: checks what cannot be
# installed, installs the Debian packages that are missing, and starts none of their services.
#
# Arguments: more packages, for what only some targets need; or --check, which only checks.
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
capabilities=$((16#$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)))
for needed in 12:NET_ADMIN 21:SYS_ADMIN 38:PERFMON 39:BPF; do
    [ $((capabilities >> ${needed%%:*} & 1)) = 1 ] ||
        stop 77 "root lacks CAP_${needed#*:} here; run it in a virtual machine or a privileged container"
done
[ -r /sys/kernel/btf/vmlinux ] ||
    stop 69 "the kernel has no BTF (/sys/kernel/btf/vmlinux); boot one with CONFIG_DEBUG_INFO_BTF=y"
awk '$3 == "cgroup2" { found = 1 } END { exit !found }' /proc/mounts ||
    stop 69 "cgroup v2 is not mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup"

if [ "${1:-}" != --check ]; then only_check=no; else only_check=yes; fi

# Debian's installer writes it; a bare debootstrap does not, and pods get a file of their own there.
[ $only_check = yes ] || [ -e /etc/hosts ] || printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >/etc/hosts

swift=$(command -v swift || true)
for candidate in /opt/swift/usr/bin/swift /usr/bin/swift; do
    if [ -z "$swift" ] && [ -x "$candidate" ]; then swift=$candidate; fi
done
[ -n "$swift" ] ||
    stop 69 "found no swift; install Swift 6.3 or newer from https://www.swift.org/install/linux"
[ $only_check = no ] || exit 0
# Ends it unless the toolchain is new enough; answers 1 where it does not run at all.
require_swift() {
    local version
    version=$("$swift" --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' | head -n 1)
    [ -n "$version" ] || return 1
    [ "$(printf '%s\n' 6.3 "$version" | sort -V | head -n 1)" = 6.3 ] ||
        stop 69 "$swift is $version; install Swift 6.3 or newer from https://www.swift.org/install/linux"
}
# A toolchain unpacked onto a bare system lacks the libraries below: then it is asked again later.
swift_runs=no
if require_swift; then swift_runs=yes; fi

# What a Swift toolchain itself runs and links with, what the build needs, what tests and demo run.
packages=(
    binutils git libcurl4 libgcc-12-dev libncurses6 libsqlite3-0 libstdc++-12-dev libxml2 tzdata
    clang-14 llvm-14 libbpf-dev libelf-dev libssl-dev libnghttp2-dev zlib1g-dev linux-libc-dev
    libc6-dev pkg-config make
    iproute2 iptables nftables ipvsadm bpftool procps util-linux libcap2-bin tcpdump
    netbase nginx-light wrk curl openssl ca-certificates python3 python3-venv python3-grpcio
    python3-protobuf python3-h2 prometheus
    "$@"
)

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing+=("$package")
done
swift_stays_broken() {
    stop 69 "$swift does not run: $("$swift" --version 2>&1 | head -n 1); install Swift 6.3 or newer from https://www.swift.org/install/linux"
}
if [ ${#missing[@]} -eq 0 ]; then
    [ $swift_runs = yes ] || swift_stays_broken
    exit 0
fi

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
[ $swift_runs = yes ] || require_swift || swift_stays_broken
