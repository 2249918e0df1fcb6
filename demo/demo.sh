#!/usr/bin/env bash
# The shop on two nodes. Nodes and pods are network namespaces of a testbed bed named "demo", the
# servers are nginx, each node runs malla-agent with the real datapath.
#
#   demo.sh        tells the whole story step by step, checks every step, takes all of it away
#   demo.sh up     makes it and leaves it running; prints how to look around
#   demo.sh down   takes it away, also after a crash
#
# Exit 0 only if every step held. What a step runs is printed after "$", as you would type it after
# `demo.sh up`: `pod NAME`, `node NAME` and `outside` stand for "in that namespace".
set -euo pipefail
cd "$(dirname "$0")/.."

BED=${MALLA_DEMO_BED:-demo}
HOME_OF_BED=/tmp/malla-testbed/$BED
PROGRAMS=${MALLA_PROGRAMS:-$PWD/.build/release}
TESTBED=$PROGRAMS/testbed
TOPOLOGY='n1: client, frontend, catalog-v1, cart; n2: catalog-v2, checkout, payments'
NODES='n1 n2'
SERVICES='frontend catalog catalog-v1 catalog-v2 cart checkout payments'
declare -A ADDRESS=([n1]=10.76.0.1 [n2]=10.76.0.2 [payments]=10.96.0.7 [catalog]=10.96.0.2)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
note() { printf '  %s\n' "$*"; }
indent() { sed 's/^/    /'; }
fail() {
    printf '\n  FAILED: %s\n' "$*" >&2
    for log in "$HOME_OF_BED"/log-n?-agent.txt; do
        [ -r "$log" ] && { echo "  $log ends:"; tail -n 15 "$log" | indent; } >&2
    done
    exit 1
}

pod() { timeout 60 "$TESTBED" exec $BED "$@"; }
node() { timeout 60 "$TESTBED" exec $BED "$@"; }
outside() { timeout 60 "$TESTBED" exec $BED fabric "$@"; }
malla() {
    local node=$1
    shift
    node "$node" "$PROGRAMS/malla" --socket "$HOME_OF_BED/$node/agent.sock" "$@"
}
# Runs a command and shows it with its output.
show() {
    printf '  $ %s\n' "$*"
    "$@" 2>&1 | cut -c 1-150 | indent
}

# wait_until SECONDS WHAT COMMAND...: polls; fails the demo when the time is up.
wait_until() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $limit ] || fail "waited in vain: $what"
        sleep 0.1
    done
}

metrics() { node "$1" curl -sf -m 5 http://127.0.0.1:15020/metrics; }
# Requests that the engines of both nodes have served.
engine_requests() {
    local node
    for node in $NODES; do metrics "$node"; done |
        awk '/^istio_requests_total[{ ]/ { sum += $NF } END { printf "%d\n", sum }'
}
# Requests that a pod's server has answered; asking counts as one, so differences are taken of pairs.
served() { pod "$1" curl -sf -m 5 http://127.0.0.1:8099/ | awk 'NR == 3 { print $3 }'; }
# Whether no process is left in the agent's cgroup of a node.
nobody_serves() {
    local root
    root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -z "$(cat "$root/malla-$BED/$1/agent/cgroup.procs")" ]
}
ready() { node "$1" curl -sf -m 2 -o /dev/null http://127.0.0.1:15020/readyz; }

# Whether a command's output contains a text. (Not grep -q: it would end the writer early.)
prints() {
    local text=$1
    shift
    [[ "$("$@" 2>&1)" == *"$text"* ]]
}

# load FILE SECONDS URL [WRK ARGUMENT...]: from the client pod, in the background; its pid is LOAD.
load() {
    local file=$1 seconds=$2 url=$3
    shift 3
    pod client wrk -t1 -c16 -d"${seconds}s" "$@" "$url" >"$file" 2>&1 &
    LOAD=$!
}
requests_of() { awk '/ requests in / { print $1 }' "$1"; }
# wrk prints these lines only when there was something to print.
clean_load() { [ "$(requests_of "$1")" -gt 0 ] && ! grep -E 'Non-2xx|Socket errors' "$1"; }

# start_agents [OPTION...]
start_agents() {
    local node
    for node in $NODES; do "$TESTBED" agent $BED "$node" "$@" >"$HOME_OF_BED/agent-$node.pid"; done
    for node in $NODES; do wait_until 30 "agent of $node is ready" ready "$node"; done
}

up() {
    [ -x "$PROGRAMS/malla-agent" ] || fail "no $PROGRAMS/malla-agent; run: make demo"
    "$TESTBED" clean
    "$TESTBED" down $BED
    trap 'down; exit 1' INT TERM
    # Killed with -9, this script takes the maker along: "down" then removes all of it.
    setpriv --pdeathsig TERM "$TESTBED" up $BED "$TOPOLOGY" | indent
    local hosts=() number=0 name server
    for name in $SERVICES; do
        number=$((number + 1))
        hosts+=("10.96.0.$number=$name" "fd00:96::$number=$name")
    done
    "$TESTBED" hosts $BED "${hosts[@]}"
    cp demo/config/*.yaml "$HOME_OF_BED/config/"
    for server in frontend catalog-v1 cart catalog-v2 checkout payments; do
        mkdir -p "$HOME_OF_BED/www-$server"
        ln -s "$PWD/demo/pages" "$HOME_OF_BED/www-$server/pages"
        "$TESTBED" start $BED $server nginx nginx -e stderr \
            -p "$HOME_OF_BED/www-$server/" -c "$PWD/demo/nginx/$server.conf" >/dev/null
    done
    for server in frontend catalog-v1 cart catalog-v2 checkout payments; do
        wait_until 10 "$server answers" served $server
    done
    start_agents
    wait_until 20 "the shop answers" pod client curl -sf -m 2 http://frontend/
}

down() { timeout 60 "$TESTBED" down $BED; }

step_shop() {
    say "1. A shop of six servers on two nodes; they find each other by service name"
    show malla n1 status
    show pod client curl -s http://frontend/
    prints 'paid' pod client curl -s http://frontend/ || fail "the page is not complete"
}

step_kernel() {
    say "2. payments is plain TCP: the kernel picks the pod at connect(), no proxy sees it"
    local before after
    before=$(engine_requests)
    show pod client curl -s http://payments/ http://payments/ "http://[fd00:96::7]/"
    load "$HOME_OF_BED/l4.txt" 2 http://payments/
    sleep 1
    note 'the application dialled 10.96.0.7 or fd00:96::7; its sockets lead straight to the pod:'
    show pod client ss -Htn state established
    wait $LOAD || fail "wrk ended with an error"
    clean_load "$HOME_OF_BED/l4.txt" || fail "errors on the way to payments"
    after=$(engine_requests)
    note "$(requests_of "$HOME_OF_BED/l4.txt") requests; the engines' own count: $before before, $after after"
    [ "$before" = "$after" ] || fail "the engine served requests of a plain TCP service"
}

step_canary() {
    say "3. catalog is HTTP: a 90/10 canary, over at least 100 000 requests"
    local v1 v2 total=0 share rounds=0
    v1=$(served catalog-v1) v2=$(served catalog-v2)
    while [ $total -lt 100000 ]; do
        rounds=$((rounds + 1))
        [ $rounds -le 12 ] || fail "only $total requests in $rounds rounds"
        load "$HOME_OF_BED/canary.txt" 8 http://catalog/products/ -c 64
        wait $LOAD || fail "wrk ended with an error"
        clean_load "$HOME_OF_BED/canary.txt" || fail "errors on the captured path"
        total=$((total + $(requests_of "$HOME_OF_BED/canary.txt")))
    done
    grep -E 'requests in|Requests/sec' "$HOME_OF_BED/canary.txt" | indent
    v1=$(($(served catalog-v1) - v1)) v2=$(($(served catalog-v2) - v2))
    share=$((10000 * v2 / (v1 + v2)))
    note "catalog-v1 answered $v1, catalog-v2 $v2: v2 has $((share / 100)).$(printf %02d $((share % 100))) %; 0 errors"
    { [ $share -ge 900 ] && [ $share -le 1100 ]; } || fail "not within a point of 90/10"
}

step_rules() {
    say "4. A header forces v2; a path is rewritten; the server sees the client's own address"
    show pod client curl -si -H 'x-version: v2' http://catalog/products/
    prints 'x-pod: catalog-v2' pod client curl -si -H 'x-version: v2' http://catalog/products/ ||
        fail "x-version: v2 did not lead to v2"
    show pod client curl -si http://catalog/old/tea
    prints 'x-uri: /products/tea' pod client curl -si http://catalog/old/tea ||
        fail "/old/tea did not arrive as /products/tea"
    prints 'x-client: 10.77.1.10' pod client curl -4si http://catalog/old/tea ||
        fail "the server did not see the client's IPv4 address"
    prints 'x-client: fd00:77:1::10' pod client curl -6si http://catalog/old/tea ||
        fail "the server did not see the client's IPv6 address"
}

step_sight() {
    say "5. What an operator sees"
    for table in services endpoints routes 'bpf stats'; do
        # Unquoted on purpose: "bpf stats" is two words.
        # shellcheck disable=SC2086
        show malla n1 $table
    done
    note '$ node n1 curl http://127.0.0.1:15020/metrics'
    metrics n1 >"$HOME_OF_BED/metrics.txt"
    grep -E '^malla_(requests_total|upstream|connections)' "$HOME_OF_BED/metrics.txt" | indent
    grep '^istio_requests_total' "$HOME_OF_BED/metrics.txt" |
        sed 's/.*source_workload="\([^"]*\)".*destination_service_name="\([^"]*\)".*response_code="\([^"]*\)".* /istio_requests_total{... \1 to \2, \3} /' | indent
    grep -q '^istio_requests_total' "$HOME_OF_BED/metrics.txt" || fail "no request metrics"
}

step_change() {
    say "6. The canary goes to 50/50 while requests flow"
    load "$HOME_OF_BED/change.txt" 8 http://catalog/products/
    sleep 2
    note '$ cp demo/changes/catalog-route.yaml CONFIG/'
    cp demo/changes/catalog-route.yaml "$HOME_OF_BED/config/.new"
    mv "$HOME_OF_BED/config/.new" "$HOME_OF_BED/config/catalog-route.yaml"
    sleep 2
    local v1 v2 share
    v1=$(served catalog-v1) v2=$(served catalog-v2)
    sleep 2
    v1=$(($(served catalog-v1) - v1)) v2=$(($(served catalog-v2) - v2))
    wait $LOAD || fail "wrk ended with an error"
    grep -E 'requests in' "$HOME_OF_BED/change.txt" | indent
    clean_load "$HOME_OF_BED/change.txt" || fail "the change cost requests"
    share=$((100 * v2 / (v1 + v2)))
    note "two seconds later v2 answers $share % of the requests; none failed"
    { [ $share -ge 45 ] && [ $share -le 55 ]; } || fail "the change did not take effect"
    cp demo/config/catalog-route.yaml "$HOME_OF_BED/config/.new"
    mv "$HOME_OF_BED/config/.new" "$HOME_OF_BED/config/catalog-route.yaml"
}

step_gateway() {
    say "7. From outside the pods: a Gateway listens on every node's address"
    show outside curl -s -H 'Host: shop.example' http://${ADDRESS[n1]}/
    local url
    for url in "http://${ADDRESS[n1]}/" "http://${ADDRESS[n2]}/" 'http://[fd00:76::1]/' 'http://[fd00:76::2]/'; do
        prints 'paid' outside curl -sf -m 5 -H 'Host: shop.example' "$url" ||
            fail "$url does not serve the shop"
        note "$url serves the shop"
    done
    local status
    status=$(outside curl -s -o /dev/null -w '%{http_code}' "http://${ADDRESS[n1]}/")
    note "a host that no route names: $status"
    [ "$status" = 404 ] || fail "an unknown host was answered with $status"
}

step_crash() {
    say "8. The agent is killed with -9"
    local supervisor child new
    supervisor=$(cat "$HOME_OF_BED/agent-n1.pid")
    child=$(awk '{ print $1 }' "/proc/$supervisor/task/$supervisor/children")
    load "$HOME_OF_BED/crash-kept.txt" 8 http://payments/
    local kept=$LOAD
    load "$HOME_OF_BED/crash-new.txt" 8 http://payments/ -H 'Connection: close'
    local fresh=$LOAD
    sleep 1
    note "$ kill -9 $child        # the child, which serves; the supervisor starts the next"
    kill -9 "$child"
    wait_until 5 "the next child serves catalog" pod client curl -sf -m 1 http://catalog/products/
    new=$(awk '{ print $1 }' "/proc/$supervisor/task/$supervisor/children")
    note "child $child is gone, child $new serves catalog"
    [ "$new" != "$child" ] || fail "the child was not replaced"
    note "$ kill -9 $supervisor $new  # all of it: no malla process is left on n1"
    kill -9 "$supervisor" "$new"
    wait_until 5 "no agent process is left on n1" nobody_serves n1
    show pod client curl -s http://payments/
    wait $kept || fail "wrk ended with an error"
    wait $fresh || fail "wrk ended with an error"
    for load in kept new; do
        clean_load "$HOME_OF_BED/crash-$load.txt" || fail "payments felt it ($load connections)"
    done
    note "payments meanwhile: $(requests_of "$HOME_OF_BED/crash-kept.txt") requests on kept connections and $(requests_of "$HOME_OF_BED/crash-new.txt") on new ones, 0 errors"
    "$TESTBED" agent $BED n1 >"$HOME_OF_BED/agent-n1.pid"
    wait_until 30 "the new agent of n1 is ready" ready n1
    wait_until 10 "the shop is whole again" pod client curl -sf -m 2 http://frontend/
    note 'a new agent adopts what the kernel kept:'
    show malla n1 status
}

# Whether every identity of both nodes has its certificate.
certified() {
    local node
    for node in $NODES; do
        [ "$(metrics $node | awk '$1 == "malla_certificates_missing" { print $2 }')" = 0 ] || return 1
    done
}
in_capture() { grep -c -a -- "$1" "$HOME_OF_BED/fabric.pcap" || true; }

step_tunnels() {
    say "9. The nodes get identities: what leaves a node is TLS, and both ends prove who they are"
    local node
    for node in $NODES; do kill "$(cat "$HOME_OF_BED/agent-$node.pid")"; done
    for node in $NODES; do wait_until 10 "the agent of $node has ended" nobody_serves "$node"; done
    note '$ malla-agent run ... --ca CA     # on both nodes: they share an authority'
    start_agents --ca "$HOME_OF_BED/ca"
    wait_until 20 "every account has its certificate" certified
    show malla n1 certs
    node n1 tcpdump -i eth0 --immediate-mode -U -s 0 -w "$HOME_OF_BED/fabric.pcap" \
        >"$HOME_OF_BED/tcpdump.txt" 2>&1 &
    local capture=$!
    wait_until 10 "tcpdump listens" grep -q listening "$HOME_OF_BED/tcpdump.txt"
    note 'a pod asks pods of the other node, by TCP and by HTTP, with a word that can be searched for:'
    show pod client curl -s -H 'x-note: secret-word' http://payments/secret-word
    show pod client curl -si -H 'x-version: v2' -H 'x-note: secret-word' http://catalog/secret-word
    note 'the node itself is no pod, so it asks in plain text:'
    show node n1 curl -s -H 'x-note: plain-word' http://10.77.2.12:8080/
    wait_until 10 "the capture has all of it" grep -q -a plain-word "$HOME_OF_BED/fabric.pcap"
    kill $capture
    wait $capture || true
    note "\$ node n1 tcpdump -r fabric.pcap tcp port 15008     # between the nodes, on the wire"
    node n1 tcpdump -nn -r "$HOME_OF_BED/fabric.pcap" 'tcp port 15008' 2>/dev/null >"$HOME_OF_BED/seen.txt"
    head -n 4 "$HOME_OF_BED/seen.txt" | cut -c 1-120 | indent
    note "$(wc -l <"$HOME_OF_BED/seen.txt") packets of tunnels; secret-word is in $(in_capture secret-word) of all packets, plain-word in $(in_capture plain-word)"
    [ -s "$HOME_OF_BED/seen.txt" ] || fail "no tunnel on the wire"
    [ "$(in_capture secret-word)" = 0 ] || fail "plain text on the wire"
    note 'both nodes say who has proved what (malla mtls shows more):'
    for node in $NODES; do
        show malla $node mtls
        malla $node mtls -o json >"$HOME_OF_BED/mtls.json"
        grep -q 'sourcePrincipal.*spiffe://cluster.local/ns/shop/sa/client"' "$HOME_OF_BED/mtls.json" ||
            fail "$node does not know the client by its identity"
        grep -q 'targetPrincipal.*spiffe://cluster.local/ns/shop/sa/payments"' "$HOME_OF_BED/mtls.json" ||
            fail "$node does not know payments by its identity"
    done
}

refused() { ! "$@" >/dev/null 2>&1; }

step_strict() {
    say "10. payments insists on mutual TLS: plain text is refused in the kernel, and said why"
    show cat demo/changes/payments-strict.yaml
    show outside curl -s -m 3 http://10.77.2.12:8080/
    cp demo/changes/payments-strict.yaml "$HOME_OF_BED/config/.new"
    mv "$HOME_OF_BED/config/.new" "$HOME_OF_BED/config/payments-strict.yaml"
    wait_until 10 "plain text is refused" refused outside curl -s -m 1 http://10.77.2.12:8080/
    note 'from outside of the mesh, and from a node that is not its own:'
    show outside sh -c 'curl -sS -m 3 http://10.77.2.12:8080/ || true'
    show node n1 sh -c 'curl -sS -m 3 http://10.77.2.12:8080/ || true'
    show malla n2 observe --verdict plain_refused
    prints 'PeerAuthentication shop/payments' malla n2 observe --verdict plain_refused ||
        fail "the refusal is not explained"
    note 'a pod with an identity is served as before:'
    show pod client curl -s http://payments/
    prints 'paid' pod client curl -s http://payments/ || fail "payments refuses the mesh"
}

how_to_look() {
    cat <<TEXT

The shop is up. Look around (make demo-down takes it away):
  $TESTBED exec $BED client curl -i http://catalog/products/
  $TESTBED exec $BED fabric curl -H 'Host: shop.example' http://${ADDRESS[n1]}/
  $TESTBED exec $BED n1 $PROGRAMS/malla --socket $HOME_OF_BED/n1/agent.sock status
  $TESTBED exec $BED n1 curl http://127.0.0.1:15020/metrics
  edit $HOME_OF_BED/config/catalog-route.yaml
TEXT
}

case "${1:-all}" in
    up)
        up
        how_to_look
        ;;
    down) down ;;
    all)
        trap down EXIT
        say "Malla's demo: two nodes, real eBPF, routed HTTP"
        up
        trap down EXIT
        for step in shop kernel canary rules sight change gateway crash tunnels strict; do step_$step; done
        say "Every step held."
        ;;
    *)
        echo "usage: demo.sh [up|down]" >&2
        exit 64
        ;;
esac
