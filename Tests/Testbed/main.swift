// The testbed by hand: beds that stand until they are taken down. The demo is built on it.

import Foundation
import TestSupport

let usage = """
    usage: testbed up NAME 'n1: client, near; n2: far'   make a bed
           testbed hold NAME TOPOLOGY                    make one until SIGTERM or SIGINT
           testbed down NAME                             take it away
           testbed list                                  which beds there are
           testbed clean                                 take away what crashes have left
           testbed show NAME                             its nodes, pods, addresses, paths
           testbed hosts NAME ADDRESS=HOST ...           what its pods find in /etc/hosts
           testbed exec NAME PLACE COMMAND ...           run in a pod, a node, or the fabric
           testbed start NAME PLACE LABEL COMMAND ...    the same, left running; prints the pid
           testbed agent NAME NODE [OPTION ...]          start the agent; prints the pid
    """

func fail(_ text: String, status: Int32) -> Never {
    FileHandle.standardError.write(Data((text + "\n").utf8))
    exit(status)
}

func bed(_ name: String) throws -> Testbed {
    guard let bed = try Testbed.standing(name) else {
        fail("testbed: no bed named \(name); make it with: testbed up \(name) TOPOLOGY", status: 69)
    }
    return bed
}

/// How a command gets into a place of the bed.
func chain(_ bed: Testbed, _ place: String, _ command: [String]) -> [String] {
    if let pod = bed.pods[place] { return pod.chain(command) }
    if let node = bed.nodes[place] { return node.chain(command) }
    guard place == Topology.fabric else {
        fail("testbed: no pod or node named \(place) in \(bed.name)", status: 64)
    }
    return ["nsenter", "--net=" + bed.namespace(place)] + command
}

/// Becomes the command: terminal, signals and exit status are its own.
func become(_ arguments: [String]) -> Never {
    // The copies are never freed: the process image is replaced, or the process ends.
    var vector: [UnsafeMutablePointer<CChar>?] = unsafe arguments.map { unsafe strdup($0) }
    unsafe vector.append(nil)
    _ = unsafe execvp(arguments[0], vector)
    fail("testbed: \(arguments[0]): errno \(errno)", status: 71)
}

func start(_ bed: Testbed, _ place: String, _ label: String, _ command: [String]) throws {
    let log = "\(bed.directory)/log-\(place)-\(label).txt"
    print(try Command.start(chain(bed, place, command), output: log, errors: log))
}

func show(_ bed: Testbed) {
    print("configuration  \(bed.configuration)\ncgroup         \(bed.cgroup)")
    for node in bed.topology.nodes {
        print("node \(node.name)  \(node.v4)  \(node.v6)  socket \(bed[node: node.name].socket)")
        for pod in node.pods { print("  pod \(pod.name)  \(pod.v4)  \(pod.v6)  \(pod.interface)") }
    }
}

/// Makes a bed that ends with this process.
func hold(_ name: String, _ topology: String) throws {
    // Blocked before the bed is made: a signal meanwhile ends the bed when it is whole.
    var signals = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe sigaddset(&signals, SIGTERM)
    unsafe sigaddset(&signals, SIGINT)
    unsafe sigprocmask(SIG_BLOCK, &signals, nil)
    let bed = try Testbed.make(held: name, topology)
    show(bed)
    print("held until this process (\(getpid())) ends")
    fflush(nil)
    var signal: Int32 = 0
    _ = unsafe sigwait(&signals, &signal)
    bed.close()
}

let words = Array(CommandLine.arguments.dropFirst())
let forAnybody = ["list", "show", "help", "--help"]
if geteuid() != 0, let word = words.first, usage.contains("testbed \(word) "),
    !forAnybody.contains(word)
{
    fail("testbed: \(word) needs root (network namespaces); run it again as root", status: 77)
}
do {
    switch (words.first, words.count) {
    case ("up", 3): show(try Testbed.make(standing: words[1], words[2]))
    case ("hold", 3): try hold(words[1], words[2])
    case ("down", 2):
        guard Testbed.isName(words[1]) else { fail(usage, status: 64) }
        Leftovers.remove(words[1])
    case ("list", 1): for name in Leftovers.names() { print(name) }
    case ("clean", 1): for name in try Leftovers.removeAbandoned() { print("removed \(name)") }
    case ("show", 2): show(try bed(words[1]))
    case ("hosts", 3...):
        let pairs = words.dropFirst(2).map { $0.split(separator: "=").map(String.init) }
        guard pairs.allSatisfy({ $0.count == 2 }) else { fail(usage, status: 64) }
        try bed(words[1]).name(pairs.map { ($0[0], $0[1]) })
    case ("exec", 4...): become(chain(try bed(words[1]), words[2], Array(words.dropFirst(3))))
    case ("start", 5...):
        try start(bed(words[1]), words[2], words[3], Array(words.dropFirst(4)))
    case ("agent", 3...):
        let bed = try bed(words[1])
        guard let node = bed.nodes[words[2]] else { fail(usage, status: 64) }
        let command = node.agentArguments(more: Array(words.dropFirst(3)))
        try start(bed, words[2], "agent", command)
    case ("help", _), ("--help", _): print(usage)
    default: fail(usage, status: 64)
    }
} catch {
    fail("testbed: \(error)", status: 70)
}
